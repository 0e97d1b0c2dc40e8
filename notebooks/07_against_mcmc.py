# %% [markdown]
# # VI against MCMC
#
# What this shows: one Bayesian Gaussian mixture, one prior, the same rows, solved twice: by vijax,
# and by a Gibbs sampler of a few lines made of vijax's own pieces. The sampler is first checked
# against an exact sum. Then posterior means and standard deviations stand side by side, with the
# time of each: once for three clusters that touch, once for two that overlap more and more. The
# means agree as long as the clusters are apart. The standard deviations of VI are too small, by a
# factor that the notebook measures and explains.

# %%
import itertools
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats

import vijax as vx
from vijax.extras import plot

x, _ = vx.datasets.three_clusters()
model = vx.GaussianMixture.from_data(x, num_components=3)
fit = vx.fit(model, x, key=jax.random.key(0), num_restarts=16).check()
fit = vx.relabel(fit)  # heaviest component first
print(fit.summary())

# %% [markdown]
# ## The sampler
#
# A blocked Gibbs sampler goes back and forth between two draws, each of them exact:
#
# $$z_n \sim p(z_n \mid x_n, \theta), \quad
# p(z_n = k \mid x_n, \theta) \propto \pi_k\, N(x_n \mid \mu_k, \Lambda_k^{-1}),$$
#
# $$\theta \sim p(\theta \mid x, z) = \mathrm{Dir}(\pi \mid \alpha_k + N_k)
# \prod_k \mathrm{NW}(\mu_k, \Lambda_k \mid \text{prior and the rows with } z_n = k).$$
#
# The second is the conjugate update that VI makes too, with labels where VI has responsibilities.
# So `model.assign` (statistics of given responsibilities, here 0 or 1) and `model.update` (prior
# plus statistics) are the exact posterior given the labels, and `q.sample` draws from it. Draws in
# the long run come from $p(\theta, z \mid x)$ itself, with no assumption on its form.
#
# Besides every draw the sampler keeps the mean and the variance of that conditional posterior;
# they will tell where VI goes wrong.


# %%
def gibbs(model, x, key, sweeps):
    batch, k = model.as_batch(x), model.num_components

    def posterior(q, labels):  # q only says about which point statistics are summed
        return model.update(q, model.assign(q, batch, jax.nn.one_hot(labels, k)))

    def sweep(q, key):
        k_theta, k_labels = jax.random.split(key)
        theta = q.sample(k_theta)
        part = theta["components"]
        root = jnp.linalg.cholesky(part.precision)
        white = jnp.einsum("nkd,kde->nke", batch.x[:, None] - part.mean, root)
        log_det = jnp.sum(jnp.log(jnp.diagonal(root, axis1=1, axis2=2)), 1)
        log_p = jnp.log(theta["weights"]) + log_det - 0.5 * jnp.sum(white**2, 2)
        labels = jax.random.categorical(k_labels, log_p)
        given = {
            "weights": (q.weights.mean, q.weights.variance),
            "means": (q.components.mean, q.components.mean_sd**2),
        }
        return posterior(q, labels), (theta, given)

    k_start, k_sweeps = jax.random.split(key)
    start = jax.random.randint(k_start, (len(batch.weight),), 0, k)  # random labels
    return jax.lax.scan(sweep, posterior(model.prior, start), jax.random.split(k_sweeps, sweeps))[1]


def chains(model, x, key, number, sweeps):
    return jax.vmap(lambda k: gibbs(model, x, k, sweeps))(jax.random.split(key, number))


def timed(function, *arguments):
    """What the function returns, and the seconds that it takes once it is compiled."""
    program = jax.jit(function).lower(*arguments).compile()
    start = time.perf_counter()
    out = jax.block_until_ready(program(*arguments))
    return out, time.perf_counter() - start


# %% [markdown]
# Is the sampler right? With 10 rows and two components there are $2^{10} = 1024$ ways to label the
# rows, and the posterior is a sum over all of them. At 0-1 responsibilities, with q the
# conditional posterior, the bound is $\log p(x, z)$ exactly, so the sum takes a few lines as well.
# The prior means -1 and 1 tell the components apart here, so that no labels can switch.

# %%
rng = np.random.default_rng(0)
few = rng.normal(size=(10, 1)) + np.repeat([-0.75, 0.75], 5)[:, None]
apart = vx.GaussianMixture.with_prior(
    2, mean=np.array([[-1.0], [1.0]]), kappa=1.0, df=12.0, scatter=10.0, conc=2.0
)


@jax.jit
def labelled(responsibilities):
    q = apart.update(apart.prior, apart.assign(apart.prior, apart.as_batch(few), responsibilities))
    mean = jnp.append(q.weights.mean, q.components.mean)
    variance = jnp.append(q.weights.variance, q.components.mean_sd**2)
    return apart.elbo(q, few, responsibilities), mean, variance


every = np.array(list(itertools.product([0, 1], repeat=10)))
log_joint, mean, variance = (np.asarray(a, float) for a in jax.vmap(labelled)(np.eye(2)[every]))
evidence = np.logaddexp.reduce(log_joint)
share = np.exp(log_joint - evidence)
exact_mean = share @ mean
exact_sd = np.sqrt(share @ (variance + (mean - exact_mean) ** 2))

draws, _ = jax.jit(lambda key: chains(apart, few, key, 8, 20_000))(jax.random.key(0))
values = np.concatenate([draws["weights"], draws["components"].mean[..., 0]], 2)[:, 500:]
values = values.reshape(-1, 4).astype(float)
small = vx.fit(apart, few, key=jax.random.key(0)).check()
small_sd = np.append(small.q.weights.sd, small.q.components.mean_sd)

print("           mean: exact   Gibbs    sd: exact   Gibbs       q")
for i, name in enumerate(["weight 0", "weight 1", "mean 0", "mean 1"]):
    print(
        f"{name:10s} {exact_mean[i]:11.3f} {values[:, i].mean():7.3f} {exact_sd[i]:12.3f}"
        f" {values[:, i].std():7.3f} {small_sd[i]:7.3f}"
    )
print(f"log evidence {evidence:.3f} nats, ELBO {float(small.elbo):.3f}")

# %% [markdown]
# The draws agree with the sum to within 0.02. The last column is a first look at what is to come:
# with so few rows the true standard deviations are 1.5 to 1.7 times those of q, and no Monte Carlo
# error is in that comparison. The bound is about 1 nat below the log evidence.
#
# ## Three clusters
#
# Eight chains of 3000 sweeps, each from labels drawn at random; the first 500 sweeps are left out.

# %%
BURN = 500
(theta, given), gibbs_seconds = timed(
    lambda model, x, key: chains(model, x, key, 8, 3000), model, x, jax.random.key(1)
)
theta, given = jax.tree.map(lambda a: np.asarray(a)[:, BURN:], (theta, given))

vi_seconds = []
for _ in range(5):
    start = time.perf_counter()
    jax.block_until_ready(vx.fit(model, x, key=jax.random.key(0), num_restarts=16))
    vi_seconds.append(time.perf_counter() - start)
vi_seconds = min(vi_seconds)

# %% [markdown]
# The prior does not tell the components apart, so every chain numbers them in its own way. Each
# draw is put in the order in which its density under q is highest; then component k means the
# same in all of them.


# %%
def align(q, theta, given):
    """Draws (chains, sweeps, k, ...) in the order of the components of q, and that order."""
    orders = jnp.array(list(itertools.permutations(range(q.weights.size))))

    def score(order):
        return q.log_prob(jax.tree.map(lambda a: jnp.take(a, order, axis=2), theta))

    order = orders[jnp.argmax(jax.vmap(score)(orders), 0)]

    def put(a):
        return jnp.take_along_axis(a, order.reshape(*order.shape, *[1] * (a.ndim - 3)), 2)

    return *jax.tree.map(put, (theta, given)), order


theta, given, order = jax.device_get(jax.jit(align)(fit.q, theta, given))
numberings = {tuple(chain[-1].tolist()) for chain in np.asarray(order)}
switches = int(np.sum(np.any(np.diff(order, axis=1) != 0, axis=2)))
print(f"{len(numberings)} different numberings in 8 chains; {switches} switches within a chain")

# %% [markdown]
# Two numbers say whether the chains can be trusted. Split R-hat compares the variance between
# half chains with that within; it is near 1 if all of them have found the same distribution. The
# effective sample size is the number of independent draws that would know the mean as well, here
# from the spread of the means of batches of successive draws.


# %%
def split_rhat(a):
    halves = np.asarray(a, float).reshape(2 * a.shape[0], -1)
    n = halves.shape[1]
    within, between = halves.var(1, ddof=1).mean(), halves.mean(1).var(ddof=1)
    return np.sqrt((n - 1) / n + between / within)


def effective_size(a, length):
    a = np.asarray(a, float)
    return a.size * a.var() / (length * a.reshape(-1, length).mean(1).var(ddof=1))


def compare(name, a, q_mean, q_sd, length):
    """One row of the table: parameter, q, draws (chains, sweeps), and how far to trust these."""
    a = np.asarray(a, float)
    row = {"name": name, "q_mean": float(q_mean), "mean": a.mean(), "q_sd": float(q_sd)}
    row |= {"sd": a.std(), "factor": a.std() / float(q_sd), "rhat": split_rhat(a)}
    row["ess"] = effective_size(a, length)
    row["shift"] = (row["q_mean"] - row["mean"]) / row["sd"]
    return row


def table(rows):
    print("parameter        mean: q   Gibbs     sd: q   Gibbs  factor  R-hat    ESS")
    for r in rows:
        print(
            f"{r['name']:15s} {r['q_mean']:8.3f} {r['mean']:7.3f} {r['q_sd']:9.4f} {r['sd']:7.4f}"
            f" {r['factor']:7.2f} {r['rhat']:6.3f} {r['ess']:6.0f}"
        )


q = fit.q
part, covariance = q.components, np.linalg.inv(np.asarray(theta["components"].precision, float))
rows = [
    compare(f"weight {k}", theta["weights"][..., k], q.weights.mean[k], q.weights.sd[k], 100)
    for k in range(3)
]
for k, j in itertools.product(range(3), range(2)):
    a = theta["components"].mean[..., k, j]
    rows.append(compare(f"mean {k}, x{j}", a, part.mean[k, j], part.mean_sd[k, j], 100))
for k, (i, j) in itertools.product(range(3), [(0, 0), (0, 1), (1, 1)]):
    a, name = covariance[..., k, i, j], f"cov {k}, x{i} x{j}"
    own = part.covariance[k, i, j], part.covariance_sd[k, i, j]
    rows.append(compare(name, a, *own, 100))
table(rows)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
plot.plot_mixture(q, x, ax=axes[0])

worst = max(rows[3:9], key=lambda r: r["factor"])
k, j = divmod(rows.index(worst) - 3, 2)
grid = worst["mean"] + worst["sd"] * np.linspace(-4, 4, 200)


def mean_density(part, k, j, grid):
    """q's marginal density of a mean: a Student-t (Bishop 2006, eq. 10.81 without the row)."""
    dof = float(part.df[k]) - part.dim + 1.0
    scale = np.sqrt(float(part.scatter[k, j, j]) / (float(part.kappa[k]) * dof))
    return scipy.stats.t.pdf(grid, dof, float(part.mean[k, j]), scale)


a = np.asarray(theta["components"].mean[..., k, j]).ravel()
axes[1].hist(a, grid[::4], density=True, color=plot.colour(k), alpha=0.35, label="Gibbs")
axes[1].plot(grid, mean_density(part, k, j, grid), color=plot.colour(k), lw=2, label="q")
axes[1].set(xlabel=f"mean of component {k}, x{j}", ylabel="posterior density")
axes[1].legend(frameon=False)

for i, r in enumerate(rows):
    error = 1.96 * r["factor"] / np.sqrt(2.0 * r["ess"])
    colour = plot.colour(int(r["name"].split()[1].strip(",")))
    axes[2].errorbar(r["factor"], i, xerr=error, fmt="o", color=colour, ms=4)
axes[2].axvline(1.0, color="black", lw=1)
axes[2].set_yticks(range(len(rows)), [r["name"] for r in rows], fontsize=8)
axes[2].invert_yaxis()
_ = axes[2].set(xlabel="posterior sd, Gibbs / q")

# %% [markdown]
# No mean of q is further than 0.15 posterior standard deviations from that of Gibbs. The
# standard deviations of q are too small: those of weights and means by a factor of up to about
# 1.15, those of the covariances by up to about 1.3; only that of weight 2, short by 1 %, could be
# the noise of the draws. Component 2, whose rows are the least in
# doubt, is nearly right in its weight and its mean (below 1.1). The bars are twice the Monte Carlo
# error, roughly.
#
# The times are both of compiled programs, on the machine that ran this notebook. Nobody may need
# so many draws, so the time for 100 effective ones is there as well.

# %%
least = min(r["ess"] for r in rows)
print(f"vijax, 16 restarts: {vi_seconds * 1e3:.1f} ms")
print(f"Gibbs, 8 chains of 3000 sweeps: {gibbs_seconds * 1e3:.0f} ms", end="; ")
print(f"{gibbs_seconds / least * 1e5:.0f} ms for 100 effective draws of the slowest parameter")
ratio = gibbs_seconds / vi_seconds
print(f"Gibbs / vijax: {ratio:.0f} in all, {ratio / least * 100:.1f} for 100 effective draws")

# %% [markdown]
# ## Two clusters that overlap
#
# Now 100 rows in one dimension, half from $N(-s/2, 1)$ and half from $N(s/2, 1)$, with the
# separation $s$ from 1 to 5 standard deviations; the noise is the same in all six data sets. The
# prior knows the variances to about a fifth. All fits are one call, all chains one program.

# %%
separations = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0]
rng = np.random.default_rng(0)
noise, side = rng.normal(size=100), np.arange(100) % 2 - 0.5
sets = jnp.asarray(np.stack([(noise + s * side)[:, None] for s in separations]), jnp.float32)
pair = vx.GaussianMixture.with_prior(2, mean=0.0, kappa=0.1, df=50.0, scatter=48.0, conc=2.0)

fits = vx.fit_many(pair, sets, key=jax.random.key(0), num_restarts=16).check()
sweep_sets = jax.vmap(lambda x, key: chains(pair, x, key, 8, 6000))
(theta2, given2), _ = timed(sweep_sets, sets, jax.random.split(jax.random.key(2), 6))
theta2, given2 = jax.tree.map(lambda a: np.asarray(a)[:, :, 1000:], (theta2, given2))
theta2, given2, order2 = jax.device_get(jax.jit(jax.vmap(align))(fits.q, theta2, given2))

# %% [markdown]
# The table has the factor (true standard deviation over that of q) of weight 0 and of both means,
# the largest distance of a mean of q from the true one in true standard deviations ("shift"), and
# how far the chains can be trusted; "true" is what the sampler says. The last column is the share
# of sweeps after which another numbering was the best: labels do switch here, so that draws must
# be put in order one by one.

# %%
overlap = []
for i in range(6):
    own = jax.tree.map(lambda a, i=i: a[i], fits.q)
    means = theta2["components"].mean[i, ..., 0]
    three = [compare("", theta2["weights"][i, ..., 0], own.weights.mean[0], own.weights.sd[0], 500)]
    for k in range(2):
        part = own.components
        three.append(compare("", means[..., k], part.mean[k, 0], part.mean_sd[k, 0], 500))
    overlap.append(three)
switched = np.mean(np.any(np.diff(order2, axis=2) != 0, axis=3), (1, 2))

print("separation  factor: weight  mean 0  mean 1  shift  R-hat    ESS  switches")
for i, three in enumerate(overlap):
    factors = [r["factor"] for r in three]
    print(
        f"{separations[i]:10.1f} {factors[0]:15.2f} {factors[1]:7.2f} {factors[2]:7.2f}"
        f" {max(abs(r['shift']) for r in three):6.2f} {max(r['rhat'] for r in three):6.3f}"
        f" {min(r['ess'] for r in three):6.0f} {switched[i]:9.2%}"
    )

# %% [markdown]
# At 5 standard deviations q is right to a few per cent. At 1.5 the true standard deviations are
# 2.4 to 3.3 times those of q, and at 1 up to 4 times. Where q is far too sure its mean is off as
# well, by up to 0.4 of a true standard deviation, which is about one of its own.
#
# ## Why
#
# Split the posterior variance of any parameter by what the labels do (law of total variance):
#
# $$\mathrm{Var}[\theta \mid x] = \underbrace{E_z\,\mathrm{Var}[\theta \mid x, z]}_{\text{labels
# known}} + \underbrace{\mathrm{Var}_z\,E[\theta \mid x, z]}_{\text{labels not known}}.$$
#
# Mean field takes $q(\theta)\,q(z)$: under it $\theta$ does not depend on $z$, and the second term
# is zero by assumption. What is left for $q(\theta)$ is about the first, as if the fractional
# counts had been observed. It cannot be mended by more rows, restarts or iterations: q is the
# best of its kind. The sampler kept both terms.

# %%
print("separation    labels known, sd / q's sd     share of the variance from the labels")
print("             weight  mean 0  mean 1         weight  mean 0  mean 1")
known, unknown = [], []
for i in range(6):
    variance = np.concatenate([given2["weights"][1][i, ..., :1], given2["means"][1][i, ..., 0]], 2)
    mean = np.concatenate([given2["weights"][0][i, ..., :1], given2["means"][0][i, ..., 0]], 2)
    q_sd = np.array([r["q_sd"] for r in overlap[i]])
    first, second = variance.mean((0, 1), float), mean.var((0, 1), float)
    known.append(np.sqrt(first) / q_sd)
    unknown.append(second / (first + second))
    left = " ".join(f"{v:7.2f}" for v in known[-1])
    right = " ".join(f"{v:7.0%}" for v in unknown[-1])
    print(f"{separations[i]:10.1f} {left}        {right}")
known, unknown = np.array(known), np.array(unknown)

# %%
figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
i = separations.index(1.5)
own = jax.tree.map(lambda a: a[i], fits.q)
plot.plot_mixture(own, np.asarray(sets[i]), ax=axes[0])
axes[0].set_xlabel("x, separation 1.5 sd")

grid = np.linspace(-2.5, 2.5, 300)
for k in range(2):
    a = np.asarray(theta2["components"].mean[i, ..., k, 0]).ravel()
    axes[1].hist(
        a, grid[::5], density=True, color=plot.colour(k), alpha=0.35, label=f"Gibbs, component {k}"
    )
    density = mean_density(own.components, k, 0, grid)
    axes[1].plot(grid, density, color=plot.colour(k), lw=2, label=f"q, component {k}")
axes[1].set(xlabel="mean of the component", ylabel="posterior density")
axes[1].set_ylim(0, 4.2)
axes[1].legend(frameon=False, loc="upper left", ncols=2, fontsize=8)

for j, name in enumerate(["weight", "mean 0", "mean 1"]):
    factor = np.array([three[j]["factor"] for three in overlap])
    error = 1.96 * factor / np.sqrt([2.0 * three[j]["ess"] for three in overlap])
    axes[2].errorbar(separations, factor, yerr=error, fmt="o-", color=plot.colour(j), label=name)
axes[2].axhline(1.0, color="black", lw=1)
axes[2].set(xlabel="separation in standard deviations", ylabel="posterior sd, Gibbs / q")
_ = axes[2].legend(frameon=False)

# %% [markdown]
# The first column of the table says what q knows: from 2 standard deviations on, its standard
# deviations are within 5 % of those with known labels. All the rest, four fifths of the variance
# of the weight at 2, is doubt about the labels, and missing. Below that separation the labels
# that q averages over are not those of the posterior either, so the split explains less. The
# middle panel has the posteriors of both means at 1.5.
#
# Often VI is shown to agree with MCMC on one example, and is then trusted from there on. One
# example says little: the factor depends on how much the clusters overlap, here from 1.01 to 4,
# with the same model, prior and number of rows.

# %% [markdown]
# What can go wrong:
#
# - Standard deviations of a mean-field q are too small wherever labels are in doubt: by a factor
#   up to 1.3 in `three_clusters`, which looks well separated, and by 2.4 to 3.3 at 1.5 standard
#   deviations. Use them as lower bounds; where clusters overlap, run a sampler too.
# - The sampler has its own failures. Neighbouring draws are alike: at 1.5 standard deviations
#   40 000 draws are worth about 1500. A low R-hat does not exclude a mode that no chain has found.
# - With labels that switch, averages over draws as they come are averages over the numberings.
#   Any order that is imposed, also that of q, cuts the posterior of overlapping clusters.
# - A prior under which a component may be empty leaves the draws of its parameters to the prior,
#   with tails so heavy that their variance may not exist. Here `conc`, `kappa` and `df` prevent it.
# - Time: the 24 000 sweeps took over 10 times as long as the 16 restarts, but 100 effective draws
#   of the slowest parameter only a few times as long. Which of the two is fair depends on what the
#   draws are for; and VI needs no sweeps that are left out, nor a look at R-hat.
#
# Sources: C. M. Bishop, Pattern Recognition and Machine Learning, Springer 2006: section 10.1.2
# (a factorised q is too compact), 10.2 (variational mixture of Gaussians), 11.3 (Gibbs sampling).
# J. Diebolt and C. P. Robert, Estimation of finite mixture distributions through Bayesian
# sampling, JRSS B 56 (1994). M. Stephens, Dealing with label switching in mixture models, JRSS B
# 62 (2000). A. Gelman et al., Bayesian Data Analysis, third edition 2013, section 11.4 (split
# R-hat). B. Wang and D. M. Titterington, Inadequacy of interval estimates corresponding to
# variational Bayesian approximations, AISTATS 2005. R. Giordano, T. Broderick and M. I. Jordan,
# Covariances, robustness, and variational Bayes, JMLR 19 (2018): a correction of the covariance.

# %%
# the sampler against the exact sum
assert np.all(np.abs(values.mean(0) - exact_mean) < 0.03)
assert np.all(np.abs(values.std(0) / exact_sd - 1) < 0.05)
assert np.all((exact_sd / small_sd > 1.45) & (exact_sd / small_sd < 1.75))
assert 0.8 < evidence - float(small.elbo) < 1.25
# three clusters
assert len(numberings) > 1
assert switches == 0
assert max(r["rhat"] for r in rows) < 1.01
assert min(r["ess"] for r in rows) > 3000
assert max(abs(r["shift"]) for r in rows) < 0.15
assert all(r["factor"] > 0.98 for r in rows)
assert sum(r["factor"] > 1.0 for r in rows) >= 17
assert max(r["factor"] for r in rows[:9]) < 1.2
assert 1.15 < max(r["factor"] for r in rows[9:]) < 1.4
assert max(r["factor"] for r in [rows[2], *rows[7:9]]) < 1.12
assert gibbs_seconds > 10 * vi_seconds
# two clusters that overlap
factors = np.array([[r["factor"] for r in three] for three in overlap])
assert max(r["rhat"] for three in overlap for r in three) < 1.05
assert np.all((factors[1] > 2.0) & (factors[1] < 4.0))
assert np.all(np.abs(factors[5] - 1) < 0.1)
assert 3.3 < factors.max() < 5.0
assert 0.2 < max(abs(r["shift"]) for r in overlap[0]) < 0.6
assert 0.5 < max(abs(r["shift"]) * r["factor"] for r in overlap[0]) < 1.7
assert switched[0] > switched[2] >= switched[5] == 0
assert 400 < min(r["ess"] for r in overlap[1]) < 5000
# the law of total variance
assert np.all(np.abs(known[2:] - 1) < 0.07)
assert 0.7 < unknown[2, 0] < 0.92
