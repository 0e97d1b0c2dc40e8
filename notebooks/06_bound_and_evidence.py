# %% [markdown]
# # Bound, evidence, likelihood
#
# What this shows: three quantities that are easily taken for one another. The evidence
# $\log p(x)$ averages the likelihood over the prior; the ELBO is a lower bound on it; and the
# plug-in log-likelihood $\log p(x \mid \hat\theta)$ at the fitted parameters is neither. For nine
# rows the evidence is computed exactly, for 500 by importance sampling. The ELBO plus $\log K!$ is
# close to both. The plug-in log-likelihood is tens of nats higher, and more rows make it worse.

# %%
from functools import partial
from itertools import permutations, product
from math import factorial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import gammaln, multigammaln

import vijax as vx
from vijax.extras import plot

# %% [markdown]
# ## Exact, for nine rows
#
# Given the assignments $z$ of all rows everything is conjugate, so $p(x, z)$ is a product of known
# normalisers, and the evidence is a sum over assignments:
#
# $$p(x) = \sum_{z \in \{1, 2\}^9} p(z) \prod_k p(x_{z=k}),$$
#
# with $p(z) = \Gamma(2) / \Gamma(2 + 9) \cdot \prod_k \Gamma(1 + n_k) / \Gamma(1)$ for a prior
# Dirichlet(1, 1), and for the rows of one component the Normal-Wishart evidence ($S = W^{-1}$, the
# index $n$ after its $n$ rows)
#
# $$\log p(x_1 \ldots x_n) = -\tfrac{nD}{2} \log \pi + \log \tfrac{\Gamma_D(\nu_n / 2)}
# {\Gamma_D(\nu_0 / 2)} + \tfrac{\nu_0}{2} \log |S_0| - \tfrac{\nu_n}{2} \log |S_n|
# + \tfrac{D}{2} \log \tfrac{\kappa_0}{\kappa_n}.$$
#
# There are $2^9 = 512$ terms. NumPy adds them in float64.

# %%
KAPPA, DF = 0.05, 4.0
small = vx.GaussianMixture.with_prior(2, mean=[0.0, 0.0], kappa=KAPPA, df=DF, scatter=1.0, conc=1.0)
assignments = np.array(list(product([0, 1], repeat=9)))


def log_evidence_of_component(rows):
    n, d = rows.shape
    kappa, df = KAPPA + n, DF + n
    total = rows.sum(0)
    scatter = np.eye(d) + rows.T @ rows - np.outer(total, total) / kappa  # prior mean 0
    return (
        -0.5 * n * d * np.log(np.pi)
        + multigammaln(0.5 * df, d)
        - multigammaln(0.5 * DF, d)
        - 0.5 * df * np.linalg.slogdet(scatter)[1]
        + 0.5 * d * np.log(KAPPA / kappa)
    )


def log_joint(x, z):
    counts = np.bincount(z, minlength=2)
    log_p_z = gammaln(2.0) - gammaln(2.0 + len(x)) + gammaln(1.0 + counts).sum()
    return log_p_z + sum(log_evidence_of_component(x[z == k]) for k in range(2))


def log_evidence(x):
    return np.logaddexp.reduce([log_joint(x, z) for z in assignments])


noise = np.random.default_rng(0).normal(size=(9, 2))
truth = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
side = np.where(truth[:, None] == 0, -0.5, 0.5) * np.array([1.0, 0.0])
x_small = noise + 6.0 * side  # two clusters, 6 sd apart
print(f"log p(x) = {log_evidence(x_small):.4f} nats")

# %% [markdown]
# The library gives the same terms. With all labels known nothing is approximate, and the ELBO is
# $\log p(x, z)$:


# %%
@jax.jit
@jax.vmap
def bound_given_labels(z):
    return vx.fit(small, vx.Batch.of(x_small, label=z), key=jax.random.key(0)).elbo


terms = np.asarray(bound_given_labels(jnp.asarray(assignments)))
exact_terms = np.array([log_joint(x_small, z) for z in assignments])
print(f"largest difference of 512 terms: {np.abs(terms - exact_terms).max():.1e} nats")

# %% [markdown]
# ## The gap
#
# $\log p(x) - \mathrm{ELBO} = \mathrm{KL}[q \,\|\, p(\theta, z \mid x)]$ holds for every $q$, so
# now the divergence is a number. The same noise, with the clusters moved apart step by step, the
# best of 16 restarts each:

# %%
apart = np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0])
evidences, bounds = np.zeros(len(apart)), np.zeros(len(apart))
print(f"{'apart (sd)':>10}{'log p(x)':>10}{'ELBO':>9}{'KL':>7}{'ELBO + log 2':>14}")
for i, distance in enumerate(apart):
    rows = noise + distance * side
    fit = vx.fit(small, rows, key=jax.random.key(0), num_restarts=16).check()
    evidences[i], bounds[i] = log_evidence(rows), float(fit.elbo)
    kl = evidences[i] - bounds[i]
    mended = bounds[i] + np.log(2)
    print(f"{distance:10.0f}{evidences[i]:10.2f}{bounds[i]:9.2f}{kl:7.2f}{mended:14.2f}")

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(apart, evidences - bounds, "o-", color=plot.colour(0), label=r"$\log p(x)$ - ELBO")
ax.axhline(np.log(2), color=plot.colour(1), linestyle="--", label="log 2")
ax.set(xlabel="distance of the clusters (sd)", ylabel="KL from q to the posterior (nats)")
ax.set_ylim(bottom=0.0)
_ = ax.legend()

# %% [markdown]
# The ELBO is below the evidence every time. Far apart, the divergence is $\log 2 = 0.69$ nats and
# nothing else: $q$ is one of two equal modes, and exact in it. So $\mathrm{ELBO} + \log 2$ is the
# evidence to 0.01 nats at 8 standard deviations. Closer together the assignments of single rows
# become uncertain, $q(z) \, q(\theta)$ cannot say how they depend on each other, and the
# divergence rises to about 2 nats, of which $\log 2$ covers a third.
#
# ## By importance sampling, for more rows
#
# For 500 rows there are $3^{500}$ assignments. But given $\theta$ they sum out row by row,
# $p(x \mid \theta) = \prod_n \sum_k \pi_k N(x_n \mid \mu_k, \Lambda_k^{-1})$, and with draws
# $\theta_s \sim g$ from a proposal
#
# $$p(x) = \mathbb{E}_g\!\left[w\right] \approx \frac{1}{S} \sum_s w_s, \qquad
# w_s = \frac{p(x \mid \theta_s) \, p(\theta_s)}{g(\theta_s)}.$$
#
# The fitted $q$ is the obvious proposal, with two cautions. It is a little too narrow, as mean
# field is, so a few large weights carry the sum: its natural parameters times 0.6 or 0.8, say, are
# a wider proposal (a vector space of natural parameters makes that one multiplication). And it
# covers one labelling only. Its draws hardly ever reach the other $K! - 1$ modes, so the plain
# average finds one mode, about $p(x) / K!$, and $\log K!$ has to be added by hand. That is right
# if the modes do not overlap. Always right is the proposal with randomly permuted labels,
# $g(\theta) = \frac{1}{K!} \sum_\sigma q(\sigma \theta)$: as $p(x, \theta)$ is symmetric, the
# draws need not be permuted at all, only $g$ is averaged.


# %%
def log_likelihood(theta, x):
    mean, precision = theta["components"].mean, theta["components"].precision
    root = jnp.linalg.cholesky(precision)
    white = jnp.einsum("nkd,kde->nke", x[:, None] - mean, root)
    log_det = jnp.sum(jnp.log(jnp.diagonal(root, axis1=-2, axis2=-1)), -1)
    log_normal = log_det - 0.5 * jnp.sum(white**2, -1) - 0.5 * x.shape[1] * jnp.log(2 * jnp.pi)
    return jnp.sum(jax.nn.logsumexp(jnp.log(theta["weights"]) + log_normal, -1))


@partial(jax.jit, static_argnames="draws")
def log_weights(model, q, x, key, draws):
    """For each draw from q: the log weight against q, and against q with permuted labels."""
    orders = jnp.array(list(permutations(range(q.weights.size))))

    def one(key):
        theta = q.sample(key)
        log_target = log_likelihood(theta, x) + model.prior.log_prob(theta)
        each = jax.vmap(lambda order: q.log_prob(jax.tree.map(lambda a: a[order], theta)))(orders)
        log_symmetric = jax.nn.logsumexp(each) - jnp.log(len(orders))
        return log_target - q.log_prob(theta), log_target - log_symmetric

    return jax.lax.map(one, jax.random.split(key, draws), batch_size=250)


def average(log_w):
    """log of the mean weight, its standard error, and the effective share of the draws."""
    log_w = np.asarray(log_w, float)
    top = log_w.max()
    w = np.exp(log_w - top)
    error = w.std(ddof=1) / w.mean() / np.sqrt(len(w))
    return top + np.log(w.mean()), error, w.sum() ** 2 / (w**2).sum() / len(w)


DRAWS = 5_000


def sampled(model, fit, x, width):
    plain, symmetric = log_weights(
        model, fit.q * width, jnp.asarray(x, jnp.float32), jax.random.key(1), DRAWS
    )
    return average(plain), average(symmetric)


def compared(model, fit, x, widths):
    """The estimate with permuted labels, for each width of the proposal; prints both estimates."""
    k = model.num_components
    log_orders = np.log(factorial(k))
    print(f"ELBO                       {float(fit.elbo):9.3f}")
    print(f"ELBO + log {k}!              {float(fit.elbo) + log_orders:9.3f}")
    found = {}
    for width in widths:
        (value, *rest), found[width] = sampled(model, fit, x, width)
        both = {f"+ log {k}!": (value + log_orders, *rest), "permuted": found[width]}
        for name, (value, error, share) in both.items():
            label = f"q * {width}, {name}"
            print(f"{label:27}{value:9.3f} ± {error:.3f}, effective draws {share:.0%}")
    return found


# %% [markdown]
# First the case with a known answer, nine rows:

# %%
fit_small = vx.fit(small, x_small, key=jax.random.key(0), num_restarts=16).check()
exact = log_evidence(x_small)
print(f"exact                      {exact:9.3f}")
found_small = compared(small, fit_small, x_small, widths=(1.0, 0.6))

# %%
x, _ = vx.datasets.three_clusters()
model = vx.GaussianMixture.from_data(x, 3, conc=1.0)
fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=16).check()
log_orders = np.log(factorial(3))
found = compared(model, fit, x, widths=(1.0, 0.8))

# %% [markdown]
# For 500 rows the sampled evidence is 1.4 nats above $\mathrm{ELBO} + \log 3!$: that is what mean
# field costs here, a tenth of a nat for each of 17 parameters. The modes do not overlap, so both
# ways of counting labellings agree. The wider proposal has the smaller error.
#
# The nine rows show the limit of the method. The estimate with $q$ itself as proposal is too low
# by more than its standard error allows: $q$ never visits the assignments other than its own, so
# their mass is missing, and a standard error knows only of what was visited. With a wider proposal
# the two agree, at the price of a larger error.
#
# ## The plug-in log-likelihood
#
# A fit has parameters that one can plug in, the posterior means $\hat\theta = \mathbb{E}_q[\pi,
# \mu, \Lambda]$, and $\log p(x \mid \hat\theta)$ is a number in nats too. It is often said that
# the ELBO is below it and that both meet in the end if the variational family is rich enough. The
# first half is true: in a mixture $\mathbb{E}_q[\log \pi_k N(x \mid \mu_k, \Lambda_k^{-1})]$ is at
# most $\log \hat\pi_k N(x \mid \hat\mu_k, \hat\Lambda_k^{-1})$, by Jensen's inequality for each
# factor, and the ELBO has a divergence subtracted besides. The second half is not. Here is every
# iterate of one fit:

# %%
states = vx.trajectory(model, x, num_iters=200, key=jax.random.key(0), init="random")
plug_in = np.asarray(jax.vmap(lambda q: jnp.sum(model.log_likelihood(q, x)))(states.q))
elbo = np.asarray(states.elbo)
evidence = found[0.8][0]

figure, axes = plt.subplots(1, 2, figsize=(12, 4), layout="constrained")
iteration = 1 + np.arange(len(elbo))
for ax, last in zip(axes, (30, 200), strict=True):
    ax.plot(iteration[:last], plug_in[:last], color=plot.colour(1), label="plug-in log-likelihood")
    ax.axhline(evidence, color=plot.colour(2), linestyle="--", label="log evidence (sampled)")
    ax.plot(iteration[:last], elbo[:last], color=plot.colour(0), label="ELBO")
    ax.set(xlabel="iteration", ylabel="nats")
axes[1].set_ylim(evidence - 20, plug_in[-1] + 20)
_ = axes[0].legend(loc="lower right")
for i in (30, 100, 200):
    print(f"iteration {i:3}: plug-in less ELBO {plug_in[i - 1] - elbo[i - 1]:.3f} nats")

# %% [markdown]
# What the gap is made of: $\mathrm{ELBO} = \sum_n \log \sum_k \exp \mathbb{E}_q[\log \pi_k N(x_n
# \mid \mu_k, \Lambda_k^{-1})] - \mathrm{KL}[q(\theta) \,\|\, p(\theta)]$. The plug-in value takes
# the parameters as known (no averaging) and as free (no prior, so no KL).

# %%
penalty = float(model.kl(fit.q))
fitted = float(jnp.sum(model.log_likelihood(fit.q, x)))
print(f"plug-in less ELBO:  {fitted - float(fit.elbo):7.2f} nats")
print(f"  no prior, KL:     {penalty:7.2f}")
print(f"  no averaging:     {fitted - float(fit.elbo) - penalty:7.2f}")

# %% [markdown]
# ## More rows
#
# With $N$ rows the posterior of each of the $P$ free parameters is narrower than its prior by a
# factor of order $\sqrt{N}$, and each such factor costs $\frac12 \log N$ nats of evidence:
# $\log p(x) = \log p(x \mid \hat\theta) - \frac{P}{2} \log N + O(1)$ (Schwarz 1978). Three
# components in the plane have $P = 3 \cdot (2 + 3) + 2 = 17$. The same prior for every $N$:

# %%
many, _ = vx.datasets.three_clusters(6400)
wide = vx.GaussianMixture.from_data(many, 3, conc=1.0)
numbers = np.array([100, 400, 1600, 6400])
gaps = []
for n in numbers:
    weight = (np.arange(len(many)) < n).astype(float)  # rows of weight 0 are not there
    rows = vx.Batch.of(many, weight)
    run = vx.fit(wide, rows, key=jax.random.key(0), num_restarts=4).check()
    total = np.asarray(wide.log_likelihood(run.q, many[:n]), float).sum()
    gaps.append(total - float(run.elbo) - log_orders)
    print(f"N = {n:5}: plug-in less (ELBO + log 3!) = {gaps[-1]:6.2f} nats")
slope, offset = np.polyfit(np.log(numbers), gaps, 1)
print(f"slope against log N: {slope:.2f}, P / 2 = 8.5")

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
ax.plot(numbers, gaps, "o", color=plot.colour(0), label="plug-in - (ELBO + log 3!)")
middle = np.mean(gaps) - 8.5 * np.mean(np.log(numbers))
ax.plot(
    numbers,
    middle + 8.5 * np.log(numbers),
    color=plot.colour(1),
    label=r"slope $\frac{17}{2}$ per unit of $\log N$",
)
ax.set(xscale="log", xlabel="rows N", ylabel="nats")
_ = ax.legend()

# %% [markdown]
# Over a factor of 64 in $N$ the gap nearly doubles, from 37 to 73 nats, at about 8.6 nats per unit
# of $\log N$. Divided by $N$ it vanishes, which is why the two curves can look alike in a plot per
# row. But evidence is compared in nats, not in nats per row, and there the plug-in value nearly
# always prefers the larger model. Neither patience nor data close the gap, and it says nothing
# about mean field: with the exact posterior in place of $q$ it would still be there, about 1.4
# nats smaller at $N=500$.

# %% [markdown]
# What can go wrong: $\mathrm{ELBO} + \log K!$ is close to the evidence only where the modes are
# apart; at a distance of 3 standard deviations and nine rows it is 1.3 nats too low. Importance
# sampling counts the mass that its proposal visits: with $q$ itself it is about 0.015 nats too low
# on the nine rows at 6 standard deviations, several of its own standard errors. With closer
# clusters both the bias and the spread of the weights grow. For 500 rows only a small share of
# the draws from $q$ counts; in many more dimensions hardly any would. The plug-in log-likelihood is
# no estimate of the evidence at all: use it (or better `log_predictive`, on rows that were held
# out) to judge predictions.
#
# Sources: Bishop (2006), Pattern Recognition and Machine Learning, section 10.1 (bound and
# divergence), section 10.2 (mixtures), section 4.4.1 (evidence and BIC), section 11.1.4
# (importance sampling); Schwarz (1978), Annals of Statistics 6.

# %%
assert np.abs(terms - exact_terms).max() < 1e-3
assert np.all(evidences - bounds > np.log(2) - 0.01)  # never above, whatever the distance
assert abs(evidences[-2] - bounds[-2] - np.log(2)) < 0.01
assert 1.9 < (evidences - bounds).max() < 2.2
assert 1.2 < evidences[3] - bounds[3] - np.log(2) < 1.4
assert -0.05 < found_small[1.0][0] - exact < -0.002
assert exact - found_small[1.0][0] > 2 * found_small[1.0][1]
assert abs(found_small[0.6][0] - exact) < 4 * found_small[0.6][1]
assert 1.1 < found[0.8][0] - float(fit.elbo) - log_orders < 1.8
assert abs(found[0.8][0] - found[1.0][0]) < 0.5
assert found[0.8][1] < 0.15
assert found[1.0][2] < 0.3
assert np.all(plug_in >= elbo)
assert plug_in[-1] > evidence + 40
assert abs((plug_in[-1] - elbo[-1]) - (plug_in[99] - elbo[99])) < 0.05
assert 50 < fitted - float(fit.elbo) < 57
assert 43 < penalty < 48
assert 7.5 < slope < 9.3
assert 36 < gaps[0] < 40
assert 71 < gaps[-1] < 77
