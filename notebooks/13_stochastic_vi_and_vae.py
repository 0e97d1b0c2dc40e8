# %% [markdown]
# # Stochastic variational inference and the variational autoencoder
#
# What this shows: gradients of the bound from draws and from minibatches of rows, and what step
# size, number of draws and averaging do to the result. Then models with a latent variable for every
# row, whose posterior is the output of a network: a variational autoencoder of handwritten digits,
# against PCA of the same dimension; how far its bound is from the evidence; and a mixture whose
# responsibilities come from a network, against exact E-steps.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.scipy.special import logsumexp
from jax.scipy.stats import norm
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

import vijax as vx
from vijax.extras import plot

key = jax.random.key(0)

# %% [markdown]
# ## Stochastic variational inference
#
# A logistic regression with 2000 rows and five correlated covariates: a log prior, and a log
# likelihood of every row. `GaussianVI`, the default of `fit`, looks at all rows in every step. Its
# result is what the stochastic method is measured by.

# %%
rng = np.random.default_rng(0)
factor = np.tril(rng.normal(size=(5, 5))) + 2.0 * np.eye(5)
covariates = (rng.normal(size=(2000, 5)) @ factor.T / 3.0).astype(np.float32)
slope = np.array([1.0, -0.5, 0.0, 0.8, -1.5])
flags = (rng.random(2000) < 1.0 / (1.0 + np.exp(0.5 - covariates @ slope))).astype(np.float32)
rows = {"x": covariates, "y": flags}


def log_prior(params):
    return norm.logpdf(params["slope"], scale=2.5).sum() + norm.logpdf(params["level"], scale=2.5)


def log_lik(params, rows):
    score = rows["x"] @ params["slope"] + params["level"]
    return rows["y"] * score - jax.nn.softplus(score)


model = vx.LogDensity(
    log_prior, log_lik, like={"slope": np.zeros(5), "level": 0.0}, independent_rows=True
)
reference = vx.fit(model, rows).check()
print(reference.summary())

# %% [markdown]
# `StochasticVI` follows noisy gradients. `vx.bound_and_gradient` gives them for any $q$, so that
# their variance can be measured: from one draw of $q$ each, at the start and at the optimum.
#
# - *reparameterised*: $u = m + C z$ with $z$ standard normal, and the derivative along the draw;
# - *sticking the landing*: the same without the score of $q$, whose mean is zero. What is left
#   vanishes where $q$ is the posterior;
# - *score*: $(\log p - \log q)\, \nabla \log q$, which needs no derivative of $p$; its baseline is
#   the mean of the other draws, so that it needs two draws, and here all have two.

# %%
ESTIMATORS = ("sticking_the_landing", "reparameterised", "score", "score_without_baseline")
variance = {}
for where, q in {"start": model.template, "optimum": reference.q}.items():
    for estimator in ESTIMATORS:
        options = {"num_draws": 2, "estimator": estimator}
        gradients = jax.vmap(
            lambda key, q=q, options=options: vx.bound_and_gradient(
                model, q, rows, key=key, **options
            )[1]
        )(jax.random.split(key, 300))
        total = sum(float(jnp.sum(jnp.var(a, 0))) for a in jax.tree.leaves(gradients))
        variance[where, estimator] = total
        print(f"{where:8s} {estimator:23s} variance of the gradient {total:12.4g}")

# %% [markdown]
# ### Step size, draws, averaging
#
# Every fit below makes 2000 updates from minibatches of 100 rows, whose log-likelihoods count
# twentyfold. A step of the fit is 100 updates. The distance of its $q$ from that of `GaussianVI` is
# a KL divergence of normals, in nats.


# %%
def distance(q):
    """KL(q || reference) in nats."""
    own = np.asarray(q.covariance, float)
    exact = np.asarray(reference.q.covariance, float)
    move = np.asarray(q.location - reference.q.location, float)
    ratio = np.linalg.solve(exact, own)
    square = move @ np.linalg.solve(exact, move)
    return 0.5 * (np.trace(ratio) - len(move) - np.linalg.slogdet(ratio)[1] + square)


falling = optax.cosine_decay_schedule(0.05, 2000)
settings = {
    "rate 0.05, mean of iterates": vx.StochasticVI(0.05, 10, batch_size=100),
    "rate 0.05, last iterate": vx.StochasticVI(0.05, 10, batch_size=100, average=False),
    "falling rate, mean of iterates": vx.StochasticVI(falling, 10, batch_size=100),
    "falling rate, one draw": vx.StochasticVI(falling, 1, batch_size=100),
}
stochastic, gaps = {}, {}
for name, method in settings.items():
    fit = vx.fit(model, rows, key=key, method=method, stop=vx.Stop(tol=1e-6, max_iter=20))
    stochastic[name], gaps[name] = fit, distance(fit.q)
    print(f"{name:31s} {gaps[name]:8.4f} nats away, {vx.Status(int(fit.status)).name}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 3.8), layout="constrained")
place = np.arange(4)
for k, where in enumerate(("start", "optimum")):
    height = [variance[where, estimator] for estimator in ESTIMATORS]
    axes[0].bar(place + 0.4 * k - 0.2, height, 0.38, color=plot.colour(k), label=f"at the {where}")
names = [name.replace("_", " ").replace(" the", "\nthe") for name in ESTIMATORS]
axes[0].set_xticks(place, [name.replace("score without", "score\nwithout") for name in names])
axes[0].set(yscale="log", ylabel="variance of the gradient", title="two draws, all rows")
for k, (name, fit) in enumerate(stochastic.items()):
    if "last" not in name:  # the iterates are the same as those of the first
        short = float(reference.elbo) - np.asarray(fit.elbo_trace)[:20]
        axes[1].plot(100 * np.arange(1, 21), short, color=plot.colour(k), label=name)
axes[1].set(xlabel="updates", ylabel="nats below GaussianVI", yscale="log")
axes[1].set_title("mean bound of the iterates of 100 updates")
for ax in axes:
    ax.legend(frameon=False)
plt.show()

# %% [markdown]
# Far from the optimum the derivative along the draw is the better by a factor of more than ten, and
# the score function without a baseline is of no use. At the optimum the order is another one:
# $\log p - \log q$ is nearly constant, so that the baseline takes nearly all of it away, and with
# sticking the landing next to nothing is left; the plain reparameterised gradient still has the
# score of $q$ in it.
#
# A step size that does not fall leaves the last iterate nats away, and the mean of the iterates of
# the last half takes that out. A step size that falls brings the iterates themselves to the
# optimum, as the right figure shows. Ten draws cost ten times as many likelihoods as one, and end
# several times nearer: much of the noise is that of the draws, not of the choice of rows. No fit
# met the very strict tolerance of $10^{-6}$ nats, and each says so: MAX_ITER.
#
# ## A variational autoencoder
#
# Now every row has a latent variable $z_n$ of its own, in two dimensions. A network, the decoder,
# makes of it the mean of the 64 pixels:
#
# $$z_n \sim \mathcal N(0, I), \qquad x_n \mid z_n \sim \mathcal N(f_\theta(z_n), \sigma^2 I).$$
#
# If $f$ is linear this is probabilistic PCA, whose evidence has a closed form. For a network there
# is none, and the posterior of every $z_n$ would be a fit of its own. *Amortised* inference trains
# a second network, the encoder, that maps a row to its $q(z_n) = \mathcal N(m_n,
# \mathrm{diag}(s_n^2))$, and all parameters climb the same bound,
#
# $$\log p(x_n) \ge E_q[\log p(x_n, z_n) - \log q(z_n)].$$
#
# `vx.amortised_bound` needs a log joint density of one row and an encoder of one row, and gives the
# bound of each row in nats with all constants. `vx.fit_amortised` climbs it by any optax optimiser.
# Images are 8 by 8 pixels with values from 0 to 1; 1440 are for training, 357 are held out.

# %%
digits = load_digits()
order = np.random.default_rng(0).permutation(len(digits.data))
images = (digits.data[order] / 16.0).astype(np.float32)
train, held_out, digit = images[:1440], images[1440:], digits.target[order][1440:]


def layers(key, *sizes):
    pairs = zip(jax.random.split(key, len(sizes) - 1), sizes, sizes[1:], strict=False)
    return [(jax.random.normal(k, (a, b)) / np.sqrt(a), jnp.zeros(b)) for k, a, b in pairs]


def network(layers, x):
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def encoder(params, x):
    mean, log_sd = jnp.split(network(params["encoder"], x), 2)
    return mean, log_sd


def log_joint(params, z, x):
    pixels = norm.logpdf(x, network(params["decoder"], z), jnp.exp(params["log_sigma"]))
    return norm.logpdf(z).sum() + pixels.sum()


def vae_bound(params, x, key):
    return vx.amortised_bound(log_joint, encoder, params, x, key=key)


start = {
    "encoder": layers(jax.random.key(1), 64, 100, 4),
    "decoder": layers(jax.random.key(2), 2, 100, 64),
    "log_sigma": -1.0,
}
optimiser = optax.adam(optax.cosine_decay_schedule(5e-3, 400 * 12))
vae = vx.fit_amortised(
    vae_bound, start, train, key=key, optimiser=optimiser, batch_size=128, num_epochs=400
).check()
trace = np.asarray(vae.bound_trace)
print("nats per row after 1, 10, 100 and 400 epochs:", trace[[0, 9, 99, 399]].round(2))
print(f"standard deviation of a pixel: {float(jnp.exp(vae.params['log_sigma'])):.3f}")

# %% [markdown]
# ### Against PCA of the same dimension
#
# Two comparisons on the rows that were held out. The reconstruction $f(m_n)$ has a mean squared
# error, as that from two principal components has. And the bound, which is less than
# $\log p(x_n)$, stands against the exact log density of probabilistic PCA, which scikit-learn
# gives: both are densities of the same 64 pixels.
#
# `IWAE(k)` replaces the mean of log weights by the log of the mean weight of $k$ draws, a bound
# that tightens with $k$ towards $\log p(x_n)$.

# %%
pca = PCA(2).fit(train)
by_pca = pca.inverse_transform(pca.transform(held_out))
latent, log_sd = jax.vmap(encoder, (None, 0))(vae.params, held_out)
by_vae = np.asarray(network(vae.params["decoder"], latent))
error = {"PCA": np.mean((by_pca - held_out) ** 2), "VAE": np.mean((by_vae - held_out) ** 2)}
density = pca.score(held_out)
SAMPLES = (1, 10, 100, 1000)
tighter = []
for k in SAMPLES:
    options = {"num_draws": max(1, 300 // k), "objective": vx.IWAE(k)}
    bounds = vx.amortised_bound(log_joint, encoder, vae.params, held_out, key=key, **options)
    tighter.append(float(bounds.mean()))
elbo = vx.amortised_bound(log_joint, encoder, vae.params, held_out, key=key, num_draws=300)
for name, value in error.items():
    print(f"{name}: mean squared error of a held-out pixel {value:.4f}")
print(f"probabilistic PCA: log density of a held-out row {density:.2f} nats")
print(f"VAE: ELBO {float(elbo.mean()):.2f} nats, and IWAE by number of samples:")
print({k: round(value, 2) for k, value in zip(SAMPLES, tighter, strict=True)})

# %% [markdown]
# Between the ELBO and $\log p(x_n)$ are two things: the posterior of $z_n$ is no normal with
# independent coordinates, and the encoder does not find the best such normal. The second can be
# measured. With the decoder fixed, every held-out row gets a mean and a log standard deviation of
# its own, which climb the same bound from where the encoder has put them. The encoder of that fit
# is a table, and a row brings its index.


# %%
def own_joint(params, z, row):
    return log_joint(vae.params, z, row["x"])


def own_encoder(params, row):
    i = row["index"].astype(jnp.int32)
    return params["mean"][i], params["log_sd"][i]


def own_bound(params, rows, key):
    options = {"num_draws": 4, "estimator": "sticking_the_landing"}
    return vx.amortised_bound(own_joint, own_encoder, params, rows, key=key, **options)


indexed = {"x": held_out, "index": np.arange(357.0, dtype=np.float32)}
falling = optax.adam(optax.cosine_decay_schedule(0.03, 300))
own = vx.fit_amortised(
    own_bound,
    {"mean": latent, "log_sd": log_sd},
    indexed,
    key=key,
    optimiser=falling,
    batch_size=None,
    num_epochs=300,
).check()
own_elbo = float(
    vx.amortised_bound(own_joint, own_encoder, own.params, indexed, key=key, num_draws=300).mean()
)
print(f"ELBO with a q from the encoder {float(elbo.mean()):.2f} nats per held-out row")
print(f"ELBO with a q of its own       {own_elbo:.2f}")
print(f"IWAE, 1000 samples             {tighter[-1]:.2f}")

# %% [markdown]
# The encoder costs five nats per held-out row, more than a thousand importance samples regain. A
# network that was trained on 1440 rows knows those rows best; the decoder is not to blame, as with
# a $q$ of their own new rows have nearly the bound of the training rows.

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
axes[0].plot(np.arange(1, 401), trace, color=plot.colour(0))
axes[0].set(xlabel="epoch", ylabel="nats per row", title="bound of the training rows")
axes[0].set_ylim(-5.0, None)
axes[1].plot(SAMPLES, tighter, "o-", color=plot.colour(0), label="VAE, importance weighted")
axes[1].axhline(float(elbo.mean()), color=plot.colour(0), linestyle="--", label="VAE, ELBO")
axes[1].axhline(own_elbo, color=plot.colour(2), linestyle="-.", label="ELBO, q of each row")
axes[1].axhline(density, color=plot.colour(1), linestyle=":", label="probabilistic PCA, exact")
axes[1].set(xscale="log", xlabel="samples", ylabel="nats per row", title="held-out rows")
axes[1].legend(frameon=False, loc="center right")
points = axes[2].scatter(*np.asarray(latent).T, c=digit, cmap="tab10", s=14, vmin=-0.5, vmax=9.5)
axes[2].set(xlabel="first latent coordinate", ylabel="second", title="means of held-out rows")
figure.colorbar(points, ax=axes[2], ticks=range(10), label="digit")
plt.show()

# %%
axis = np.asarray(norm.ppf(jnp.linspace(0.03, 0.97, 10)))
across, down = np.meshgrid(axis, axis[::-1])
grid = np.stack([across.ravel(), down.ravel()], 1)
generated = np.asarray(network(vae.params["decoder"], grid)).reshape(10, 10, 8, 8)


def tiled(pictures):
    """Pictures (rows, columns, 8, 8) side by side, one white pixel between them."""
    framed = np.pad(pictures, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return framed.transpose(0, 2, 1, 3).reshape(10 * len(framed), -1)


shown = [np.flatnonzero(digit == d)[0] for d in range(10)]
triple = np.stack([a[shown].reshape(10, 8, 8) for a in (held_out, by_vae, by_pca)])

figure, axes = plt.subplots(1, 2, figsize=(12, 4.6), layout="constrained", width_ratios=(1, 1.6))
axes[0].imshow(tiled(generated), cmap="gray_r", vmin=0.0, vmax=1.0)
axes[0].set_title("decoder along quantiles of the prior of z")
axes[0].set(xlabel="first latent coordinate", ylabel="second", xticks=[], yticks=[])
axes[1].imshow(tiled(triple), cmap="gray_r", vmin=0.0, vmax=1.0)
axes[1].set_yticks([4.5, 14.5, 24.5], ["held out", "VAE", "PCA"])
axes[1].set_xticks([])
axes[1].set_title("reconstructions from two numbers")
plt.show()

# %% [markdown]
# ## A mixture whose responsibilities are encoded
#
# Where the latent variable is one of few classes the bound needs no draws: it is a sum over the
# classes. `vx.amortised_mixture_bound` takes the log joint density of every class and a network for
# the logarithms of the responsibilities. The model is the mixture of three Gaussians of notebook
# 03, by maximum likelihood. There an exact E-step is available, and its bound is the
# log-likelihood; so we can see what an encoder costs: the mean KL divergence of its
# responsibilities from the exact ones. One encoder is linear in the two coordinates, the other has
# 20 hidden units. Both begin from eight starts side by side, by `jax.vmap`.

# %%
x, _ = vx.datasets.long_clusters()
x = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
flat = vx.GaussianMixture.flat(num_components=3, num_features=2)
em = vx.fit(flat, x, key=key, method=vx.EM(), num_restarts=10).check()
greatest = float(em.elbo) / len(x)


def class_log_joint(params, x):
    """log pi_k N(x | mu_k, (T_k^T T_k)^-1) with T_k upper triangular."""
    a, b, c = params["log_t1"], params["t12"], params["log_t2"]
    move = x - params["means"]
    first = jnp.exp(a) * move[:, 0] + b * move[:, 1]
    second = jnp.exp(c) * move[:, 1]
    return jax.nn.log_softmax(params["logits"]) + norm.logpdf(first) + norm.logpdf(second) + a + c


def mixture_bound(params, x, key):
    return vx.amortised_mixture_bound(
        class_log_joint, lambda params, x: network(params["encoder"], x), params, x
    )


def mixture_fit(key, sizes):
    of_means, of_encoder, of_fit = jax.random.split(key, 3)
    none = jnp.zeros(3)
    start = {"logits": none, "log_t1": none + 0.5, "t12": none, "log_t2": none + 0.5}
    start["means"] = jax.random.choice(of_means, jnp.asarray(x), (3,), replace=False)
    start["encoder"] = layers(of_encoder, *sizes)
    return vx.fit_amortised(
        mixture_bound, start, x, key=of_fit, optimiser=ascent, batch_size=125, num_epochs=150
    )


ascent = optax.adam(optax.cosine_decay_schedule(0.03, 150 * 8))
encoders = {"linear": (2, 3), "20 hidden units": (2, 20, 3)}
mixtures = {}
for name, sizes in encoders.items():
    fits = jax.jit(jax.vmap(lambda key, sizes=sizes: mixture_fit(key, sizes)))(
        jax.random.split(key, 8)
    )
    best = int(np.argmax(np.asarray(fits.bound_trace)[:, -1]))
    params = jax.tree.map(lambda a, best=best: a[best], fits.params)
    bound = float(mixture_bound(params, x, None).mean())
    exact = float(logsumexp(jax.vmap(class_log_joint, (None, 0))(params, x), axis=1).mean())
    mixtures[name] = (params, bound, exact)
    print(f"{name:16s} bound {bound:.4f}, after an exact E-step {exact:.4f} nats per row")
print(f"EM               log-likelihood         {greatest:.4f} nats per row")

# %%
figure, axes = plt.subplots(1, 2, figsize=(12, 4.0), layout="constrained")
for ax, (name, (params, bound, exact)) in zip(axes, mixtures.items(), strict=True):
    resp = np.asarray(jax.nn.softmax(network(params["encoder"], x), axis=1))
    ax.scatter(*x.T, color=plot.blend(resp), s=8)
    ax.set_title(f"{name}: {exact - bound:.4f} nats per row below an exact E-step")
    ax.set(xlabel="first coordinate", ylabel="second")
plt.show()

# %% [markdown]
# The responsibilities of a mixture with covariances of its own are softmax of quadratic functions,
# so that a linear encoder cannot give them. And as one bound is climbed by model and encoder
# together, the model adapts to what the encoder can say: even after an exact E-step its likelihood
# is below the maximum that EM finds. With hidden units both gaps are a tenth or less.
#
# What can go wrong: a bound that has risen for long says nothing of new rows; hold some out. An
# encoder that has seen too few rows has a gap of its own, which looks like a bad model. A VAE has
# many optima, and coordinates of $z$ can be turned or unused; another key gives another picture.
# With one standard deviation for all pixels, those that are always 0 teach nothing, and generated
# digits look blurred. A step size that is too large ends as NON_FINITE, which `check()` raises. One
# that is too small ends as MAX_ITER like all others, since `fit_amortised` has no stopping rule.
# For a mixture, EM and CAVI need no encoder, and are exact and faster.
#
# Sources: D. P. Kingma and M. Welling, *Auto-Encoding Variational Bayes*, ICLR 2014; G. Roeder,
# Y. Wu and D. Duvenaud, *Sticking the Landing*, NeurIPS 2017; Y. Burda, R. Grosse and
# R. Salakhutdinov, *Importance Weighted Autoencoders*, ICLR 2016; M. E. Tipping and C. M. Bishop,
# *Probabilistic Principal Component Analysis*, JRSS B 61, 1999; C. Cremer, X. Li and D. Duvenaud,
# *Inference Suboptimality in Variational Autoencoders*, ICML 2018; B. T. Polyak and
# A. B. Juditsky, *Acceleration of Stochastic Approximation by Averaging*, SIAM J. Control Optim.
# 30, 1992.

# %%
# variance of gradients
assert variance["start", "score"] > 5 * variance["start", "reparameterised"]
assert variance["start", "score_without_baseline"] > 20 * variance["start", "score"]
assert variance["optimum", "sticking_the_landing"] < 0.02 * variance["optimum", "reparameterised"]
assert variance["optimum", "score"] < 0.1 * variance["optimum", "reparameterised"]
# stochastic fits
assert gaps["rate 0.05, mean of iterates"] < 0.2
assert gaps["rate 0.05, last iterate"] > 10 * gaps["rate 0.05, mean of iterates"]
assert gaps["falling rate, mean of iterates"] < 0.1
assert 2 * gaps["falling rate, mean of iterates"] < gaps["falling rate, one draw"] < 0.5
assert all(fit.status == vx.Status.MAX_ITER for fit in stochastic.values())
# the autoencoder
assert trace[0] < trace[9] < trace[99] < trace[399]
assert error["VAE"] < 0.75 * error["PCA"]
assert float(elbo.mean()) > density + 8.0
assert np.all(np.diff(tighter) > 0.2)
assert tighter[1] > float(elbo.mean()) + 1.0
assert float(elbo.mean()) + 3.0 < own_elbo
assert abs(own_elbo - trace[399]) < 2.0
# the mixture
for _, bound, exact in mixtures.values():
    assert bound < exact < greatest + 1e-4
linear, hidden = mixtures["linear"], mixtures["20 hidden units"]
assert 0.02 < linear[2] - linear[1] < 0.05
assert hidden[2] - hidden[1] < 0.1 * (linear[2] - linear[1])
assert greatest - hidden[2] < 0.002
