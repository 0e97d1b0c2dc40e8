# %% [markdown]
# # KL(q||p) and KL(p||q)
#
# What this shows: what a Gaussian $q$ makes of a target $p$ that it cannot equal, depending on the
# divergence that it minimises: $\mathrm{KL}(q\|p)$, as variational inference does,
# $\mathrm{KL}(p\|q)$, or an $\alpha$-divergence between the two. The targets are a bimodal density
# in one dimension and a correlated Gaussian in two. All of it is quadrature or closed form, and
# gradient descent; nothing is sampled.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import vijax as vx
from vijax.extras import plot

# %% [markdown]
# The two orders are
#
# $$\mathrm{KL}(q\|p) = \int q \log\frac{q}{p}, \qquad \mathrm{KL}(p\|q) = \int p \log\frac{p}{q}$$
#
# (sometimes shown as $\int q\,\frac{q}{p}$, without the logarithm; but that is 1 where $q = p$, and
# no KL divergence). The first is large where $q$ has mass and $p$ has little, so that minimising it
# keeps $q$ away from there: it is called zero forcing, or *mode seeking*. The second is large where
# $p$ has mass and $q$ has little: *mass covering*. Between them lie the $\alpha$-divergences
#
# $$D_\alpha = \frac{1}{\alpha (1 - \alpha)}\left(1 - \int p^\alpha q^{1 - \alpha}\right),
# \qquad 0 < \alpha < 1,$$
#
# with $\mathrm{KL}(q\|p)$ as the limit $\alpha \to 0$ and $\mathrm{KL}(p\|q)$ as $\alpha \to 1$.
#
# ## A bimodal target
#
# 35 % of $p$ lie around $-2$ and 65 % around $2$, each part with a standard deviation of 0.6. On a
# grid every integral is a sum.

# %%
parts = vx.Normal.from_standard(jnp.array([-2.0, 2.0]), 1.0 / jnp.full(2, 0.6) ** 2)
grid = jnp.linspace(-14.0, 14.0, 1401)
cell = float(grid[1] - grid[0])
log_parts = jnp.log(jnp.array([0.35, 0.65])) + parts.log_prob(grid[:, None])
log_p = jax.nn.logsumexp(log_parts, axis=1)


def gaussian(theta):
    """A Normal from its mean and log standard deviation."""
    return vx.Normal.from_standard(theta[0], jnp.exp(-2.0 * theta[1]))


def kl_q_p(theta, log_p=log_p):
    log_q = gaussian(theta).log_prob(grid)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p)) * cell


def kl_p_q(theta, log_p=log_p):
    log_q = gaussian(theta).log_prob(grid)
    return jnp.sum(jnp.exp(log_p) * (log_p - log_q)) * cell


def descend(divergence, start, steps=2000, rate=0.1):
    """Gradient descent: where it ends, and the divergence there."""

    def step(theta, _):
        return theta - rate * jax.grad(divergence)(theta), None

    theta = jax.lax.scan(step, start, length=steps)[0]
    return theta, divergence(theta)


# %% [markdown]
# From 45 starts at once, with means from $-4$ to $4$ and standard deviations 0.5, 1, 2, 3 and 4:

# %%
means, sds = jnp.meshgrid(jnp.linspace(-4.0, 4.0, 9), jnp.array([0.5, 1.0, 2.0, 3.0, 4.0]))
starts = jnp.stack([means.ravel(), jnp.log(sds.ravel())], axis=1)


def optima(divergence):
    """The distinct ends, best first: number of starts, mean, sd and divergence."""
    theta, value = jax.jit(jax.vmap(lambda start: descend(divergence, start)))(starts)
    theta, value = np.asarray(theta, float), np.asarray(value, float)
    _, first, count = np.unique(theta.round(2), axis=0, return_index=True, return_counts=True)
    ends = zip(count, theta[first, 0], np.exp(theta[first, 1]), value[first], strict=True)
    return sorted(ends, key=lambda end: end[3])


found = {"KL(q||p)": optima(kl_q_p), "KL(p||q)": optima(kl_p_q)}
for name, ends in found.items():
    for count, mean, sd, value in ends:
        print(f"{name}: mean {mean:7.4f}, sd {sd:.4f}, {value:.4f} nats, from {count} starts")

# %% [markdown]
# $\mathrm{KL}(q\|p)$ has two local optima, as far as 45 starts can tell, one at each mode. At
# either, $q$ is nearly one part of $p$ and leaves out the other; what that costs is minus the
# logarithm of the part's weight, 0.43 or 1.05 nats. Where one ends depends on the start, which is
# why variational inference uses several: its bound is
# $\log p(x) - \mathrm{KL}(q\|p)$.
#
# $\mathrm{KL}(p\|q)$ has one optimum, from every start: the mean and the variance of $p$. For any
# exponential family this is exact. In natural coordinates $\eta$, those of `vx.Normal`, its
# gradient is
#
# $$\nabla_\eta\,\mathrm{KL}(p\|q) = E_q[T] - E_p[T],$$
#
# and it is convex in $\eta$, so that matching the moments of $p$ is the only optimum. `jax.grad`
# through a `vx.Normal` is a `vx.Normal` of derivatives:

# %%
mean_p = jnp.sum(jnp.exp(log_p) * grid) * cell
var_p = jnp.sum(jnp.exp(log_p) * (grid - mean_p) ** 2) * cell
t_p = jnp.array([-0.5 * (var_p + mean_p**2), mean_p])  # E_p[T], T = (-x^2 / 2, x)


def slope_and_rule(precision, shift):
    q = vx.Normal(jnp.asarray(precision), jnp.asarray(shift), origin=jnp.asarray(0.0))
    slope = jax.grad(lambda q: jnp.sum(jnp.exp(log_p) * (log_p - q.log_prob(grid))) * cell)(q)
    t_q = q.expectation()
    rule = jnp.stack([t_q.precision, t_q.shift]) - t_p
    return np.asarray([[slope.precision, slope.shift], rule], float)


elsewhere = slope_and_rule(0.5, 1.0)
matched = slope_and_rule(1.0 / var_p, mean_p / var_p)
print("another q: gradient", elsewhere[0].round(3), "rule", elsewhere[1].round(3))
print("moments of p: largest entry of the gradient", np.abs(matched[0]).max().round(3))

# %% [markdown]
# This is sometimes called belief propagation; but minimising $\mathrm{KL}(p\|q)$ over an
# exponential family is *moment matching*. It needs expectations under $p$, which are what is
# missing in the first place. Expectation propagation minimises it locally: for one factor of $p$ at
# a time, the others replaced by their approximations. Its fixed points need not minimise
# $\mathrm{KL}(p\|q)$ as a whole. Loopy belief propagation is the special case of a fully factorised
# $q$ over discrete variables.
#
# It is also said that this order overestimates the variance; but here the variance is exactly
# right. What is too large is the entropy, by exactly $\mathrm{KL}(p\|q)$, and much of $q$ lies
# where $p$ has next to nothing:

# %%
entropy_p = -float(jnp.sum(jnp.exp(log_p) * log_p) * cell)
cover = vx.Normal.from_standard(mean_p, 1.0 / var_p)
too_much = float(cover.entropy()) - entropy_p
middle = jnp.argmin(jnp.abs(grid - mean_p))
at_middle = float(jnp.exp(log_p[middle])), float(jnp.exp(cover.log_prob(grid[middle])))
valley = jnp.abs(grid) < 0.8  # at least two standard deviations away from either mode
in_valley = [
    float(jnp.sum(jnp.where(valley, jnp.exp(lp), 0.0)) * cell)
    for lp in (log_p, cover.log_prob(grid))
]
best_sd = found["KL(q||p)"][0][2]
print(f"sd: p {float(jnp.sqrt(var_p)):.3f}, mass covering q {float(cover.sd):.3f}")
print(f"    mode seeking q {best_sd:.3f}, {best_sd / float(jnp.sqrt(var_p)):.0%} of p's")
print(f"entropy of the mass covering q less that of p: {too_much:.4f} nats")
print(f"density at its mean: p {at_middle[0]:.3f}, q {at_middle[1]:.3f}")
print(f"mass between -0.8 and 0.8: p {in_valley[0]:.1%}, q {in_valley[1]:.1%}")

# %% [markdown]
# ## In between
#
# $D_\alpha$ for 49 values of $\alpha$, each from three starts: both modes and the moments of $p$.
# And a warning about the words "mode seeking": the same descent on $\mathrm{KL}(q\|p)$ for two
# parts of equal weight and standard deviation 1 at $\pm s$, from one of the modes and from a wide
# $q$ beside the centre.


# %%
def alpha_divergence(theta, alpha):
    log_q = gaussian(theta).log_prob(grid)
    log_mass = jax.nn.logsumexp(alpha * log_p + (1.0 - alpha) * log_q) + jnp.log(cell)
    return -jnp.expm1(log_mass) / (alpha * (1.0 - alpha))


def along_alpha(alpha):
    log_sds = jnp.stack([jnp.log(0.6), jnp.log(0.6), 0.5 * jnp.log(var_p)])
    begin = jnp.stack([jnp.stack([-2.0, 2.0, mean_p]), log_sds], axis=1)
    return jax.vmap(lambda start: descend(lambda t: alpha_divergence(t, alpha), start))(begin)


def along_distance(s):
    two = vx.Normal.from_standard(jnp.stack([-s, s]), jnp.ones(2))
    equal = jax.nn.logsumexp(two.log_prob(grid[:, None]), axis=1) - jnp.log(2.0)
    wide = jnp.stack([jnp.asarray(0.05), 0.5 * jnp.log(1.0 + s**2)])
    begin = jnp.stack([jnp.stack([s, jnp.zeros_like(s)]), wide])
    return jax.vmap(lambda start: descend(lambda t: kl_q_p(t, equal), start))(begin)


alphas = np.linspace(0.02, 0.98, 49)
distances = np.linspace(1.0, 4.0, 31)
ends, values = (np.asarray(a, float) for a in jax.jit(jax.vmap(along_alpha))(alphas))
apart, costs = (np.asarray(a, float) for a in jax.jit(jax.vmap(along_distance))(distances))
winner = ends[np.arange(49), values.argmin(1), 0]
covers = np.abs(winner) < 1.0  # the best q is the wide one
two_ends = np.abs(apart[:, 0, 0] - apart[:, 1, 0]) > 0.5

names = ("from the left mode", "from the right mode", "from the moments of p")
for name, mean in zip(names, ends[..., 0].T, strict=True):
    stay = np.abs(mean) > 1.5
    print(
        f"{name}: ends at a mode for alpha = {alphas[stay].min():.2f} .. {alphas[stay].max():.2f}"
    )
print(f"the wide q is the best of the three from alpha = {alphas[covers].min():.2f}")
best_is_mode = two_ends & (costs[:, 0] < costs[:, 1] - 1e-5)
print(f"equal parts: the mode is an optimum from s = {distances[two_ends].min():.1f},")
print(f"    the better one from s = {distances[best_is_mode].min():.1f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
near = jnp.abs(grid) <= 6.0
axes[0].fill_between(grid[near], jnp.exp(log_p)[near], color="0.85", label="p")
for k, (_, mean, sd, value) in enumerate(found["KL(q||p)"] + found["KL(p||q)"]):
    curve = jnp.exp(vx.Normal.from_standard(mean, 1.0 / sd**2).log_prob(grid[near]))
    name = "KL(q||p)" if k < 2 else "KL(p||q)"
    axes[0].plot(grid[near], curve, color=plot.colour(k), label=f"{name} = {value:.2f}")
axes[0].set(xlabel="x", ylabel="density", title="local optima, 35 : 65", ylim=(0, 0.95))
for k, (name, mark) in enumerate(zip(names, "v^o", strict=True)):
    order = (1, 0, 2)[k]
    look = {"color": plot.colour(order), "markersize": (8, 6, 3)[k], "linestyle": "none"}
    axes[1].plot(alphas, ends[:, k, 0], mark, label=name, **look)
axes[1].set(xlabel="α", ylabel="mean of q", title="between KL(q||p) and KL(p||q)", ylim=(-2.4, 4.2))
axes[2].plot(distances, costs[:, 1], color=plot.colour(2), label="wide q")
axes[2].plot(distances[two_ends], costs[two_ends, 0], color=plot.colour(0), label="q at a mode")
axes[2].axhline(np.log(2.0), color="0.5", linestyle=":", linewidth=1, label="log 2")
axes[2].set(xlabel="s: modes at ±s, sd 1", ylabel="KL(q||p) (nats)", title="optima, 50 : 50")
for ax in axes:
    ax.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# The change is not gradual. Both modes stay local optima far into the family, the left one up to
# $\alpha = 0.52$ and the right one up to 0.64; the wide optimum is there from $\alpha = 0.04$ on,
# and is the best of them from 0.46.
#
# And $\mathrm{KL}(q\|p)$ does not always seek a mode. With equal parts at $\pm s$, the only optimum
# found up to $s = 2.4$ is the wide one over both, 4.8 standard deviations from mode to mode. To
# about $s = 2.8$ it is the better one. It stays a local optimum to the end of the picture, and
# becomes a bad one: 1.87 nats at $s = 4$, where a mode costs $\log 2 = 0.69$.
#
# ## A correlated Gaussian and a factorised q
#
# The target has standard deviations 1 and 1.5, and correlation $\rho$. $q$ has independent
# coordinates. With $\Sigma$ the covariance of $p$ and $\Lambda$ its inverse, the optima are
#
# $$\mathrm{KL}(q\|p):\; v_i = \frac{1}{\Lambda_{ii}}, \qquad
# \mathrm{KL}(p\|q):\; v_i = \Sigma_{ii},$$
#
# the conditional and the marginal variances; the mean is right in both. In two dimensions
# $1/\Lambda_{ii} = (1 - \rho^2)\,\Sigma_{ii}$. For $D_\alpha$, matching the moments of $q$ with
# those of the normalised $p^\alpha q^{1 - \alpha}$ gives $v_i = \Sigma_{ii} / w$ with
#
# $$(1 - \alpha)\,w^2 + (2\alpha - 1)\,\lambda\,w - \alpha\,\lambda = 0, \qquad
# \lambda = \frac{1}{1 - \rho^2},$$
#
# and $v_i = \sqrt{1 - \rho^2}\,\Sigma_{ii}$ for $\alpha = 1/2$, the geometric mean of both ends.
#
# Gradient descent needs none of this. KL is a method of `vx.MultivariateNormal`, and
# $\int p^\alpha q^{1-\alpha}$ comes from its log normaliser $A$, as natural coordinates can be
# mixed:
#
# $$\log \int p^\alpha q^{1 - \alpha} = A(\alpha\,\eta_p + (1 - \alpha)\,\eta_q)
# - \alpha\,A(\eta_p) - (1 - \alpha)\,A(\eta_q).$$
#
# It starts from a wrong mean, $(2, -1)$, and variances of 1.


# %%
def correlated(rho):
    covariance = jnp.array([[1.0, 1.5 * rho], [1.5 * rho, 2.25]])
    return vx.MultivariateNormal.from_standard(jnp.zeros(2), jnp.linalg.inv(covariance))


def factorised(theta):
    """Independent coordinates, from two means and two log variances."""
    return vx.MultivariateNormal.from_standard(theta[:2], jnp.diag(jnp.exp(-theta[2:])))


def mixed(theta, p, alpha):
    q = factorised(theta).about(p)
    both = (p * alpha + q * (1.0 - alpha)).log_normalizer()
    log_mass = both - alpha * p.log_normalizer() - (1.0 - alpha) * q.log_normalizer()
    return -jnp.expm1(log_mass) / (alpha * (1.0 - alpha))


wrong = jnp.array([2.0, -1.0, 0.0, 0.0])


def three_ways(rho):
    p = correlated(rho)
    return [
        descend(lambda theta: factorised(theta).kl(p), wrong),
        descend(lambda theta: mixed(theta, p, 0.5), wrong),
        descend(lambda theta: p.kl(factorised(theta)), wrong),
    ]


rhos = np.array([0.0, 0.3, 0.5, 0.7, 0.8, 0.9])
some = np.linspace(0.1, 0.9, 9)
ways = jax.jit(jax.vmap(three_ways))(rhos)
between, _ = jax.jit(
    jax.vmap(lambda alpha: descend(lambda theta: mixed(theta, correlated(0.9), alpha), wrong))
)(some)
sigma = np.array([1.0, 2.25])
ratio = np.stack([np.exp(np.asarray(theta[:, 2:], float)) / sigma for theta, _ in ways])
ratio_between = np.exp(np.asarray(between[:, 2:], float)) / sigma
prices = np.stack([np.asarray(value, float) for _, value in ways])


def ratio_in_closed_form(alpha, rho):
    """v_i / Sigma_ii for 0 <= alpha < 1."""
    lam = 1.0 / (1.0 - rho**2)
    b = lam * (1.0 - 2.0 * alpha)
    root = np.sqrt(b**2 + 4.0 * (1.0 - alpha) * alpha * lam)
    return 2.0 * (1.0 - alpha) / (b + root)


entropies = [float(factorised(theta[-1]).entropy()) for theta, _ in ways]
entropy_target = float(correlated(0.9).entropy())
information = -0.5 * np.log(1.0 - 0.9**2)
print("correlation 0.9   variances / marginal ones    divergence   entropy less p's (nats)")
for name, i in {"KL(q||p)": 0, "alpha = 1/2": 1, "KL(p||q)": 2}.items():
    v, price = ratio[i, -1], prices[i, -1]
    print(
        f"{name:16s} {v[0]:12.4f} {v[1]:8.4f} {price:18.4f} {entropies[i] - entropy_target:12.4f}"
    )
print(f"mutual information of the coordinates, -log(1 - 0.81) / 2 = {information:.4f} nats")

# %%
figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
covariance = np.array([[1.0, 1.35], [1.35, 2.25]])
axes[0].plot(*plot.contour(np.zeros(2), covariance, 2.0).T, color="0.3", label="p")
labels = ("KL(q||p)", "α = 1/2", "KL(p||q)")
for k, (name, (theta, _)) in enumerate(zip(labels, ways, strict=True)):
    q = factorised(theta[-1])
    ellipse = plot.contour(np.asarray(q.mean), np.asarray(q.covariance), 2.0)
    axes[0].plot(*ellipse.T, color=plot.colour((0, 4, 2)[k]), label=name)
axes[0].set(xlabel="x1", ylabel="x2", title="contours at 2 sd, ρ = 0.9", xlim=(-3, 3), ylim=(-4, 6))
dense = np.linspace(0.0, 0.999, 200)
axes[1].plot(dense, ratio_in_closed_form(dense, 0.9), color="0.3", label="closed form")
ends_at = np.stack([ratio[0, -1], *ratio_between, ratio[2, -1]])
found_at = np.array([0.0, *some, 1.0])
axes[1].plot(found_at, ends_at[:, 0], "o", color=plot.colour(1), markersize=5, label="descent, x1")
axes[1].plot(found_at, ends_at[:, 1], "x", color=plot.colour(5), markersize=6, label="descent, x2")
axes[1].set(xlabel="α", ylabel="variance of q / marginal variance", title="ρ = 0.9")
smooth = np.linspace(0.0, 0.995, 200)
curves = (np.sqrt(1.0 - smooth**2), (1.0 - smooth**2) ** 0.25, np.ones(200))
for k, (name, curve) in enumerate(zip(labels, curves, strict=True)):
    shade = plot.colour((0, 4, 2)[k])
    axes[2].plot(smooth, curve, color=shade, label=name)
    axes[2].plot(rhos, np.sqrt(ratio[k, :, 0]), "o", color=shade, markersize=5)
axes[2].set(xlabel="correlation ρ", ylabel="sd of q / marginal sd", title="how much too narrow")
axes[2].set_ylim(0.0, 1.08)
for ax, place in zip(axes, ("upper left", "upper left", "lower left"), strict=True):
    ax.legend(frameon=False, loc=place)
plt.show()

# %% [markdown]
# With a correlation of 0.9 mean field by $\mathrm{KL}(q\|p)$ has standard deviations that are 44 %
# of the marginal ones, at any number of rows that leaves the correlation as it is. In the bound,
# independence costs $-\frac12 \log(1 - \rho^2)$, here 0.83 nats, the mutual information of the two
# coordinates. The other order pays the same in two dimensions, and has the
# marginal variances right, but its entropy is too large by as much as that of the first is too
# small. With $\alpha = 1/2$ the entropy is right and no variance is.
#
# What can go wrong: neither order is the right one. $\mathrm{KL}(q\|p)$ reports one mode with that
# mode's spread (in the first example 30 % of $p$'s standard deviation), and which one depends on
# the start; nothing in $q$ tells that there is another. Of correlated parameters it reports the
# standard deviation that each has when the others are known. $\mathrm{KL}(p\|q)$ puts 30 % of its
# mass into a valley that holds 2 % of $p$. And all of this had $p$ on a grid or in closed form:
# outside of examples expectations under $p$ are what is missing, while $\mathrm{KL}(q\|p)$ asks
# only for those under $q$.
#
# Sources: C. M. Bishop, Pattern Recognition and Machine Learning (2006), section 10.1.2
# (factorised Gaussians, both orders) and section 10.7 (expectation propagation); T. P. Minka,
# Divergence measures and message passing, Microsoft Research technical report (2005), for the
# $\alpha$-divergences in this form; T. P. Minka, Expectation propagation for approximate Bayesian
# inference (UAI 2001), also for belief propagation as its special case.

# %%
seeking, covering = found["KL(q||p)"], found["KL(p||q)"]
assert len(seeking) == 2
assert len(covering) == 1
shown = [end[1:] for end in seeking + covering]
parts_alone = [(2.0, 0.6, -np.log(0.65)), (-2.0, 0.6, -np.log(0.35)), (0.6, 2.0, 0.5577)]
np.testing.assert_allclose(shown, parts_alone, atol=0.01)
for kl, (_, mean, sd, _) in [(kl_q_p, end) for end in seeking] + [(kl_p_q, covering[0])]:
    theta = jnp.array([mean, np.log(sd)])
    assert np.abs(jax.grad(kl)(theta)).max() < 1e-4
    assert np.linalg.eigvalsh(jax.hessian(kl)(theta)).min() > 0.1  # a minimum, not a saddle
np.testing.assert_allclose(elsewhere[0], elsewhere[1], atol=1e-3)
np.testing.assert_allclose(matched[0], 0.0, atol=1e-3)
np.testing.assert_allclose([mean_p, var_p], [0.6, 4.0], rtol=1e-3)
np.testing.assert_allclose(too_much, covering[0][3], atol=1e-3)
np.testing.assert_allclose(in_valley, [0.023, 0.298], atol=2e-3)
np.testing.assert_allclose(best_sd / 2.0, 0.302, atol=2e-3)

left, right, middle = ends[..., 0].T
grain = 0.021  # thresholds to one step of the grid
assert abs(alphas[left < -1.5].max() - 0.52) < grain
assert abs(alphas[right > 1.5].max() - 0.64) < grain
assert abs(alphas[np.abs(middle) < 1.5].min() - 0.04) < grain
assert abs(alphas[covers].min() - 0.46) < grain
assert (covers == (alphas >= alphas[covers].min())).all()
assert abs(distances[two_ends].min() - 2.5) < 0.11
assert abs(distances[best_is_mode].min() - 2.9) < 0.11
np.testing.assert_allclose(apart[:, 1, 0], 0.0, atol=0.01)  # the wide q is an optimum throughout
np.testing.assert_allclose(costs[-1], [np.log(2.0), 1.868], atol=2e-3)

expected = np.stack([1.0 - rhos**2, np.sqrt(1.0 - rhos**2), np.ones(6)])
np.testing.assert_allclose(ratio, np.repeat(expected[..., None], 2, axis=2), rtol=1e-3)
for i, rho in enumerate(rhos):
    p = correlated(rho)
    diagonal = 1.0 / np.diagonal(p.precision), np.diagonal(p.covariance)
    np.testing.assert_allclose(ratio[0, i] * sigma, diagonal[0], rtol=1e-3)
    np.testing.assert_allclose(ratio[2, i] * sigma, diagonal[1], rtol=1e-3)
closed = ratio_in_closed_form(some, 0.9)
np.testing.assert_allclose(ratio_between, np.stack([closed, closed], axis=1), rtol=1e-3)
for theta, _ in ways:
    np.testing.assert_allclose(theta[:, :2], 0.0, atol=1e-3)  # the mean is right
np.testing.assert_allclose(
    prices[[0, 2]], -0.5 * np.log(1.0 - np.stack([rhos, rhos]) ** 2), atol=1e-4
)
excess = np.array(entropies) - entropy_target
np.testing.assert_allclose(excess, [-information, 0.0, information], atol=1e-3)
np.testing.assert_allclose(np.sqrt(ratio[0, -1]), 0.436, atol=1e-3)
