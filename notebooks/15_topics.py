# %% [markdown]
# # Topics
#
# What this shows: latent Dirichlet allocation on documents that one can look at. A handwritten
# digit is a document, its pixels are the words, and the ink in a pixel says how often the word
# occurs. A topic is then a stroke, and a digit is made of strokes in shares of its own, which no
# mixture of whole digits can say. We compare the bound with that of scikit-learn's topics, in the
# same nats, and let half of the ink of new digits tell where the other half is.

# %%
import dataclasses
import time

import jax
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import LatentDirichletAllocation

import vijax as vx
from vijax.extras import plot

# %% [markdown]
# ## The documents
#
# 1797 digits of 8 x 8 pixels with 0 to 16 units of ink come with scikit-learn. We take 1000 of
# them, and set the last 297 aside.

# %%
digits = load_digits()
counts = digits.data.astype(np.float32)
seen, new = counts[:1000], counts[1500:]
pixels = [f"({i}, {j})" for i in range(8) for j in range(8)]
print(f"{len(seen)} documents of {seen.sum(1).mean():.0f} words, {seen.shape[1]} different ones")

# %% [markdown]
# ## The model
#
# $$\theta_n \sim \mathrm{Dirichlet}(\alpha), \qquad z_{ni} \mid \theta_n \sim \theta_n, \qquad
# w_{ni} \mid z_{ni} = k \sim \beta_k, \qquad \beta_k \sim \mathrm{Dirichlet}(\eta).$$
#
# The bound that is climbed has $q(\theta_n)$ of each document at an optimum of its own, and all
# constants, so that topics of any origin are compared by it.

# %%
K = 10
model = vx.LDA.from_data(vx.Batch.documents(seen, vocabulary=pixels), K)
start = time.perf_counter()
fit = vx.fit(model, seen, key=jax.random.key(0), stop=vx.Stop(tol=100.0))
seconds = {"vijax": time.perf_counter() - start}
print(fit.summary(num_words=4))
trace = np.asarray(fit.elbo_trace, float)
trace = trace[np.isfinite(trace)]

# %%
topics = np.asarray(model.topics(fit))
order = np.argsort(-np.asarray(fit.q.weights.mean))
figure, axes = plt.subplots(2, 5, figsize=(8, 3.6), layout="constrained")
for k, ax in zip(order, axes.flat, strict=True):
    ax.imshow(topics[k].reshape(8, 8), cmap="Greys")
    ax.set_title(f"topic {k}", color=plot.colour(int(k)), fontsize=9)
    ax.set_axis_off()

# %% [markdown]
# How sure is a topic? Its words have posterior standard deviations, as every parameter here has:

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for k, ax in zip(order[:3], axes, strict=True):
    plot.plot_topic(fit, int(k), num_words=8, ax=ax)

# %% [markdown]
# ## Shares
#
# `memberships` are $E[\theta_n]$. Digits of one kind share their strokes; here is the mean of the
# memberships over each kind, and a few digits beside what their topics make of them.

# %%
shares = np.asarray(model.memberships(fit, seen))
kinds = digits.target[:1000]
by_kind = np.stack([shares[kinds == c].mean(0) for c in range(10)])
most = shares.max(1)
print(f"largest share of a topic in a digit: {np.median(most):.0%} in the median")
figure, axes = plt.subplot_mosaic(
    [["kinds", *(f"x{i}" for i in range(4))], ["kinds", *(f"y{i}" for i in range(4))]],
    figsize=(10, 3.6),
    width_ratios=[3, 1, 1, 1, 1],
    layout="constrained",
)
axes["kinds"].imshow(by_kind[:, order], cmap="Greys", vmin=0.0)
axes["kinds"].set(xlabel="topic", ylabel="digit", xticks=range(K), yticks=range(10))
axes["kinds"].set_xticklabels([str(k) for k in order])
for i in range(4):
    axes[f"x{i}"].imshow(seen[i].reshape(8, 8), cmap="Greys")
    axes[f"y{i}"].imshow((shares[i] @ topics).reshape(8, 8), cmap="Greys")
    for name in (f"x{i}", f"y{i}"):
        axes[name].set_axis_off()
axes["x0"].set_title("digits", fontsize=9, loc="left")
_ = axes["y0"].set_title("by their topics", fontsize=9, loc="left")

# %% [markdown]
# ## Beside scikit-learn
#
# `LatentDirichletAllocation` has the same model and, by default, the same prior. Its topics are a
# table of pseudo-counts; in our q they have a bound. The documents of both begin afresh here, while
# `fit.elbo` is from documents that know their last shares too. Seconds include compilation.

# %%
start = time.perf_counter()
theirs = LatentDirichletAllocation(K, max_iter=30, random_state=0).fit(seen)
seconds["scikit-learn"] = time.perf_counter() - start
components = vx.DirichletMultinomial(vx.Dirichlet.from_standard(theirs.components_))
components = jax.tree.map(lambda a: a.astype(np.float32), components)
of_theirs = dataclasses.replace(fit.q, components=components)
bounds = {
    "vijax": float(vx.elbo(model, fit.q, seen)),
    "scikit-learn": float(vx.elbo(model, of_theirs, seen)),
}
for name, bound in bounds.items():
    print(f"{name:13} {bound:12.0f} nats, {seconds[name]:5.1f} s")

# %% [markdown]
# ## Half a digit
#
# The words of each new digit are split at random. One half tells the shares, and the other half is
# scored: the perplexity is $\exp$ of minus the mean log probability of a word, the number of
# pixels that it is as uncertain about. With one topic all digits have the same ink.

# %%
one = vx.LDA.from_data(seen, 1)
of_one = vx.fit(one, seen, key=jax.random.key(0)).check()
split = jax.random.key(1)
perplexity = {
    "one topic": float(one.document_completion(of_one, new, key=split).perplexity),
    "vijax": float(model.document_completion(fit, new, key=split).perplexity),
    "scikit-learn": float(model.document_completion(of_theirs, new, key=split).perplexity),
}
for name, value in perplexity.items():
    print(f"{name:13} {value:6.2f} of {len(pixels)} pixels")

# %% [markdown]
# What can go wrong. Ink is no word: the units of one pixel come together, so the model takes a
# digit for far more evidence than it is, and the memberships for surer than they are. The bound
# has many optima, so that a run from another key may cut the strokes otherwise. Topics have no
# order and no names. And the number of topics was chosen for the figures, not by the bound.
#
# Sources: D. M. Blei, A. Y. Ng and M. I. Jordan, *Latent Dirichlet allocation*, JMLR 3 (2003),
# 993-1022; M. D. Hoffman, D. M. Blei and F. Bach, *Online learning for latent Dirichlet
# allocation*, NIPS 23 (2010); H. M. Wallach, I. Murray, R. Salakhutdinov and D. Mimno, *Evaluation
# methods for topic models*, ICML (2009) (document completion).

# %%
assert (np.diff(trace) >= -1e-5 * abs(trace[0])).all()
assert np.allclose(topics.sum(1), 1.0, atol=1e-4)
assert np.allclose(shares.sum(1), 1.0, atol=1e-4)
assert np.median(most) < 0.9
assert bounds["vijax"] > bounds["scikit-learn"] - 2000.0
assert perplexity["vijax"] < 0.9 * perplexity["one topic"]
assert abs(perplexity["vijax"] / perplexity["scikit-learn"] - 1.0) < 0.05
