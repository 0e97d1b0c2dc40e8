"""Gaussian hidden Markov models under the names of hmmlearn."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ...data.batch import Batch
from ...data.host import check_bound, check_integer, fetched
from ...data.padding import compiled
from ...infer.methods.cavi import CAVI
from ...model import Q
from ...models.hmm import HMM
from .base import COVARIANCES, Estimator, check_option, kmeans_labels, on_host, parameters

_STARTS = ("kmeans", "k-means++")
_PATHS = ("viterbi", "map")


class GaussianHMM(Estimator):
    """Variational inference of a hidden Markov model with Gaussian states, under hmmlearn's names.

    Rows of X are steps. Sequences stand one after another, and `lengths` (m,) are their numbers of
    steps; without it X is one sequence. As in hmmlearn it may also be the second argument of all
    methods; scikit-learn calls that `y`, and a `y` with a value for each row is ignored.

    Args:
        n_components: Number of states, k.
        covariance_type: "diag", "full", "tied" or "spherical".
        startprob_prior: Pseudo-counts of the first state, > 0: a scalar or (k,).
        transmat_prior: Pseudo-counts of every transition, > 0: a scalar, (k,) or (k, k); None is
            1 / n_components.
        algorithm: What `predict` and `decode` return: "viterbi", the most probable path, or "map",
            the most probable state of each step by itself.
        n_iter: Number of iterations at which a fit ends, with a ConvergenceWarning.
        tol: A fit ends when all iterations to come are forecast to gain less nats than this.
        n_init: Number of starts.
        init_params: "kmeans", labels of steps by scikit-learn's k-means, or "k-means++", the starts
            of `vijax.fit`.
        random_state, warm_start, missing, k_max: As in `GaussianMixture`.

    Attributes: `startprob_` (k,), `transmat_` (k, k), `means_` (k, d) and `covars_` (k, d, d) at
    the posterior means; `converged_`, `n_iter_`, `lower_bound_` (the exact bound on the log
    evidence in nats), `model_` and `result_`.
    """

    def __init__(
        self,
        n_components: int = 1,
        covariance_type: str = "diag",
        *,
        startprob_prior: Any = 1.0,
        transmat_prior: Any = None,
        algorithm: str = "viterbi",
        n_iter: int = 1000,
        tol: float = 1e-3,
        n_init: int = 1,
        init_params: str = "kmeans",
        random_state: Any = None,
        warm_start: bool = False,
        missing: bool = False,
        k_max: int | None = None,
    ):
        self.n_components = n_components
        self.covariance_type = covariance_type
        self.startprob_prior = startprob_prior
        self.transmat_prior = transmat_prior
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.tol = tol
        self.n_init = n_init
        self.init_params = init_params
        self.random_state = random_state
        self.warm_start = warm_start
        self.missing = missing
        self.k_max = k_max

    @property
    def _max_iter(self) -> int:
        return self.n_iter

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_option("covariance_type", self.covariance_type, COVARIANCES)
        check_option("init_params", self.init_params, _STARTS)
        check_option("algorithm", self.algorithm, _PATHS)

    # -- rows -------------------------------------------------------------------------------------

    def _lengths(self, y: Any, lengths: Any, n: int) -> np.ndarray:
        """The numbers of steps of all sequences; ValueError unless they are those of n rows."""
        if lengths is None and y is not None and np.shape(y) != (n,) and np.ndim(y) == 1:
            lengths = y
        if lengths is None:
            return np.array([n])
        found = np.asarray(lengths)
        whole = found.ndim == 1 and found.size > 0 and found.dtype.kind in "iu"
        if not whole or (found < 1).any() or found.sum() != n:
            raise ValueError(
                f"lengths: expected positive integers (m,) that add up to n_samples={n}, got "
                f"{lengths!r:.80}"
            )
        return found

    def _sequences(self, X: Any, y: Any, lengths: Any, reset: bool) -> tuple[Any, Batch, Any]:
        """The rows, the sequences that they are, and the lengths of these."""
        X = self._checked(X, reset)
        lengths = self._lengths(y, lengths, X.shape[0])
        rows = Batch.sequences(X, lengths=lengths, missing=self.missing)
        return X, on_host(rows), lengths

    def _read(self, X: Any, y: Any, lengths: Any) -> tuple[Batch, Any]:
        check_is_fitted(self)
        _, batch, lengths = self._sequences(X, y, lengths, reset=False)
        return batch, lengths

    # -- methods ----------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, lengths: Any = None) -> Any:
        """Fit from `n_init` starts and keep the best.

        Args:
            X: Steps (n, d) of all sequences; NaN is missing if `missing`.
            y: Ignored, or lengths, as the class says.
            lengths: Numbers of steps of the sequences, (m,); they add up to n.

        Raises ValueError and TypeError naming the argument, and ValueError where a fit of vijax
        ends NON_FINITE. Warns with a ConvergenceWarning if it has not converged.
        """
        self._check_arguments()
        X, batch, lengths = self._sequences(X, y, lengths, reset=True)
        k = self.n_components
        if X.shape[0] < k:
            raise ValueError(f"n_components: {k}, but there are n_samples={X.shape[0]} rows")
        model = HMM.from_data(
            batch,
            k,
            covariance=self.covariance_type,
            conc=self.transmat_prior,
            initial=self.startprob_prior,
            k_max=self._room,
        )
        random = check_random_state(self.random_state)
        result = self._fit(model, batch, CAVI(), random, self._starts(X, lengths, random))
        self._conclude(model, result)
        labels = jax.tree.map(lambda a: np.asarray(a, float), compiled(_chain)(result.q.labels))
        self.startprob_, self.transmat_ = labels[0][:k], labels[1][:k, :k]
        found = parameters(result.q, k, "full")
        self.means_, self.covars_ = found["means"], found["covariances"]
        return self

    def _starts(self, X: Any, lengths: Any, random: np.random.RandomState) -> list[Any]:
        if self._goes_on:
            return [self.result_]
        if self.init_params == "k-means++":
            return [None]
        ends = np.cumsum(lengths)[:-1]
        return [
            np.split(kmeans_labels(X, self.n_components, None, random), ends)
            for _ in range(self.n_init)
        ]

    def predict(self, X: Any, y: Any = None, lengths: Any = None) -> np.ndarray:
        """The state of each row, integers (n,), as `algorithm` says."""
        batch, lengths = self._read(X, y, lengths)
        return self._states(batch, lengths, self.algorithm)

    def decode(
        self, X: Any, y: Any = None, lengths: Any = None, algorithm: str | None = None
    ) -> tuple[float, np.ndarray]:
        """log p(x, z) in nats at the posterior means, and the states z (n,) of `predict`.

        `algorithm` is in place of that of the constructor.
        """
        algorithm = self.algorithm if algorithm is None else algorithm
        check_option("algorithm", algorithm, _PATHS)
        batch, lengths = self._read(X, y, lengths)
        states = self._states(batch, lengths, algorithm)
        log_lik = _joined(compiled(_log_lik)(self.model_, self.result_.q, batch), lengths)
        first = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        within = np.setdiff1d(np.arange(len(states)), first)
        with np.errstate(divide="ignore"):
            log_p = np.log(self.startprob_[states[first]]).sum()
            log_p += np.log(self.transmat_[states[within - 1], states[within]]).sum()
        return float(log_p + log_lik[np.arange(len(states)), states].sum()), states

    def _states(self, batch: Batch, lengths: Any, algorithm: str) -> np.ndarray:
        read = self.model_.path if algorithm == "viterbi" else self.model_.predict
        return _joined(read(self.result_, batch), lengths).astype(int)

    def predict_proba(self, X: Any, y: Any = None, lengths: Any = None) -> np.ndarray:
        """Posterior probability (n, k) of each state at each row, given its sequence."""
        batch, lengths = self._read(X, y, lengths)
        resp = _joined(self.model_.responsibilities(self.result_, batch), lengths)
        resp = resp[:, : self.n_components].astype(float)
        return resp / resp.sum(1, keepdims=True)

    def score(  # type: ignore[override]
        self, X: Any, y: Any = None, lengths: Any = None
    ) -> float:
        """log p(x) in nats of all sequences at the posterior means."""
        batch, _ = self._read(X, y, lengths)
        return float(np.asarray(self.model_.log_likelihood(self.result_, batch), float).sum())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> tuple[Any, np.ndarray]:
        """A new sequence of `n_samples` steps, (n, d), and the state of each."""
        check_is_fitted(self)
        check_integer("n_samples", n_samples)
        check_bound("n_samples", n_samples, least=1.0)
        seed = self.random_state if random_state is None else random_state
        key = self._key(check_random_state(seed))
        x, states = self.model_.sample(self.result_, key, 1, length=n_samples)
        return np.asarray(x)[0], np.asarray(states)[0].astype(int)


def _joined(values: Any, lengths: Any) -> np.ndarray:
    """Values (m, t, ...) of steps, one sequence after another, without steps that are padding."""
    host = fetched(values)
    return np.concatenate([host[i, :t] for i, t in enumerate(lengths)])


# each is compiled as one program, and not operation by operation


def _chain(labels: Any) -> tuple[Float[Array, "k"], Float[Array, "k k"]]:
    return jnp.asarray(labels.initial.mean), jnp.asarray(labels.transitions.mean)


def _log_lik(model: HMM, q: Q, batch: Batch) -> Float[Array, "m t k"]:
    log_lik = q.components.point().log_density(batch.flat())
    return log_lik.reshape(*batch.exists.shape, -1)
