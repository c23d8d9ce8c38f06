"""Gradient embeddings of candidate keys, in factors (cm-acc eqs. 4–5).

A candidate key ``k_n`` is classified among the ``M`` queries ``q_i`` of a step: ``p_n =
softmax_i(k_n·q_i / T)``, pseudo-label ``ỹ_n = argmax_i p_n``. Its embedding ``g_n`` is the gradient
of ``CE(p_n, ỹ_n)`` with respect to the weight ``W (D, H)`` of the layer that made the queries,
``z_i = W h_i``. With ``r_n = p_n − onehot(ỹ_n)`` it is

    unnormalised, q = z:       g_n = (1/T)·k_n ⊗ u_n,  u_n = Σ_i r_n[i] h_i
    normalised, q = z/‖z‖:     g_n = (1/T)·Σ_i r_n[i] (k_n − (k_n·q_i) q_i) ⊗ h̃_i,  h̃_i = h_i/‖z_i‖

The ``N × D × H`` numbers of the gradients are never made. Inner products need ``k_n`` and ``u_n``,
the latter in an orthonormal basis of what the ``h_i`` span, ``E = min(M, H)`` numbers, and in the
normalised form, with ``u_n = Σ_i r_n[i] h̃_i``, ``t_n[i] = r_n[i](k_n·q_i)``,
``w_n[i] = (k_n·q_i)(u_n·h̃_i)`` and ``G = (q qᵀ)∘(h̃ h̃ᵀ)`` also ``w_n`` and ``t_n``:

    T²⟨g_n, g_m⟩ = (k_n·k_m)(u_n·u_m) − w_n·t_m − t_n·w_m + t_nᵀ G t_m

So ``N × (D + E)`` and ``N × (D + E + 2M)`` numbers are held.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from earsight.selection.seeding import Rows, check_finite, distances_of, parts_of

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class PseudoPosteriors:
    """How the queries of a step classify candidate keys (cm-acc eq. 4).

    Attributes:
        residuals: ``r_n = p_n − onehot(ỹ_n)`` ``(N, M)``.
        labels: ``ỹ_n`` ``(N,)`` int64, the first of equal ones.
        losses: ``CE(p_n, ỹ_n) = −log max_i p_n[i]`` ``(N,)``.
    """

    residuals: Tensor
    labels: Tensor
    losses: Tensor


@torch.no_grad()
def pseudo_posteriors(
    keys: Tensor, queries: Tensor, *, temperature: float = 1.0
) -> PseudoPosteriors:
    """Classify candidates among queries, ``softmax_i(k_n·q_i / T)``.

    Args:
        keys: ``k`` ``(N, D)``.
        queries: ``q`` ``(M, D)``, normalised where the logits' are.
        temperature: ``T``.

    Raises:
        ValueError: shapes do not fit, ``temperature`` is not above 0, or a number is not finite.
    """
    keys, queries = _checked(temperature, keys=keys, queries=queries)
    return _classify(_products(keys, queries) / temperature)


def _classify(logits: Tensor) -> PseudoPosteriors:
    best, labels = logits.max(dim=1, keepdim=True)
    others = (logits - best).exp_().scatter_(1, labels, 0)
    # Where p is nearly 1, p − 1 would keep no digit, nor would the log of p.
    sums = others.sum(dim=1, keepdim=True)
    residuals = others.scatter_(1, labels, -sums).div_(1 + sums)
    return PseudoPosteriors(
        residuals=residuals, labels=labels[:, 0], losses=torch.log1p(sums)[:, 0]
    )


@dataclass(frozen=True, kw_only=True)
class GradientEmbedding:
    """Gradient embeddings ``g_n`` as factors; an ``Embedding`` for D² seeding.

    Attributes:
        keys: ``k_n`` ``(N, D)``.
        inputs: ``u_n / T`` ``(N, E)`` in an orthonormal basis, ``E = min(M, H)``.
        crossed: ``w_n / T`` ``(N, M)``; None for the unnormalised form.
        along: ``t_n / T`` ``(N, M)``; None for the unnormalised form.
        gram: ``G`` ``(M, M)``; None for the unnormalised form.
        squared_norms: ``‖g_n‖²`` ``(N,)``.
        scale: ``(N,)``, at least the terms that ``‖g_n‖²`` is a sum of: the unit of its roundings.
        residual_norms: ``‖r_n‖`` ``(N,)``.
        losses: ``CE(p_n, ỹ_n)`` ``(N,)``.
    """

    keys: Tensor
    inputs: Tensor
    crossed: Tensor | None
    along: Tensor | None
    gram: Tensor | None
    squared_norms: Tensor
    scale: Tensor
    residual_norms: Tensor
    losses: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        keys: Tensor,
        outputs: Tensor,
        inputs: Tensor,
        *,
        normalised: bool = False,
        temperature: float = 1.0,
    ) -> "GradientEmbedding":
        """Factors of the gradients of candidate keys.

        Args:
            keys: ``k`` ``(N, D)`` as they enter the products, so of unit length where they are
                compared by cosine.
            outputs: ``z = W h`` ``(M, D)``, outputs of the queries' last layer, never normalised
                (a bias may be in them).
            inputs: ``h`` ``(M, H)``, inputs of that layer.
            normalised: whether the queries are ``z/‖z‖`` rather than ``z``.
            temperature: ``T``.

        Raises:
            ValueError: shapes do not fit, ``temperature`` is not above 0, a number is not finite,
                or an output to be normalised is 0.
        """
        keys, outputs, inputs = _checked(
            temperature, keys=keys, queries=outputs, inputs=inputs, normalised=normalised
        )
        if normalised:
            length = outputs.norm(dim=1, keepdim=True)
            outputs, inputs = outputs / length, inputs / length
        with torch.autocast(keys.device.type, enabled=False):
            factors = _factors(keys, outputs, _coordinates(inputs), normalised, temperature)
        check_finite("gradients: squared norms", factors.squared_norms)
        return factors

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def device(self) -> torch.device:
        """Where the factors are."""
        return self.keys.device

    @property
    def width(self) -> int:
        """Numbers held per candidate and read for a distance."""
        factors = (self.keys, self.inputs, self.crossed, self.along)
        return sum(x.shape[1] for x in factors if x is not None)

    @property
    def norms(self) -> Tensor:
        """``‖g_n‖`` ``(N,)``."""
        return self.squared_norms.sqrt()

    def inner_products(self, rows: Tensor, among: Rows) -> Tensor:
        """``⟨g_r, g_a⟩`` ``(R, A)`` of ``rows`` ``(R,)`` int64 with the candidates ``among``."""
        with torch.autocast(self.device.type, enabled=False):
            products = self.keys[rows] @ self.keys[among].T
            products *= self.inputs[rows] @ self.inputs[among].T
            if self.crossed is None or self.along is None or self.gram is None:
                return products
            along, crossed = self.along[rows], self.crossed[rows]
            products.addmm_(along, self.crossed[among].T, alpha=-1)
            return products.addmm_(along @ self.gram - crossed, self.along[among].T)

    def squared_distances(self, rows: Tensor, among: Rows) -> Tensor:
        """``‖g_r − g_a‖²`` ``(R, A)``; 0 where it is but rounding errors."""
        return distances_of(
            self.inner_products(rows, among),
            self.squared_norms[rows],
            self.squared_norms[among],
            self.scale[rows],
            self.scale[among],
        )


def posterior_spread(
    residual_norms: Tensor, *, shares: Sequence[float] = SHARES, usable: Tensor | None = None
) -> Tensor:
    """Quantiles of ``‖r_n‖``: whether gradients tell certain candidates from uncertain ones.

    Args:
        residual_norms: ``(N,)``.
        shares: of candidates below each quantile, in ``[0, 1]``.
        usable: ``(N,)`` bool, candidates that count; all where it is None.

    Returns:
        ``(len(shares),)``.

    Raises:
        ValueError: no candidate counts.
    """
    counted = residual_norms if usable is None else residual_norms[usable]
    if len(counted) == 0:
        raise ValueError("no candidate is usable, so that there is no spread")
    at = torch.tensor(list(shares), dtype=counted.dtype, device=counted.device)
    return counted.quantile(at)


def _checked(
    temperature: float, *, normalised: bool = False, **tensors: Tensor
) -> tuple[Tensor, ...]:
    """The tensors in one precision, at least float32."""
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; give one above 0")
    dtype = torch.float32
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            raise ValueError(f"{name}: give a matrix, not {tuple(tensor.shape)}")
        check_finite(name, tensor)
        dtype = torch.promote_types(dtype, tensor.dtype)
    keys, queries, inputs = tensors["keys"], tensors["queries"], tensors.get("inputs")
    if keys.shape[1] != queries.shape[1]:
        raise ValueError(f"keys have {keys.shape[1]} dimensions, and queries {queries.shape[1]}")
    if len(queries) == 0:
        raise ValueError("there are no queries to classify candidates by")
    if inputs is not None and len(inputs) != len(queries):
        raise ValueError(f"there are {len(queries)} queries, but inputs of {len(inputs)}")
    if normalised and not bool(queries.any(dim=1).all()):
        raise ValueError("a query is 0 and has no direction; use normalised=False")
    return tuple(x.detach().to(dtype) for x in tensors.values())


def _products(keys: Tensor, queries: Tensor) -> Tensor:
    with torch.autocast(keys.device.type, enabled=False):
        return keys @ queries.T


def _coordinates(inputs: Tensor) -> Tensor:
    """Rows ``(M, H)`` in an orthonormal basis of their span, ``(M, min(M, H))``."""
    if inputs.shape[1] <= len(inputs):
        return inputs
    # MPS has no QR.
    there = inputs if inputs.device.type == "cuda" else inputs.cpu()
    coordinates: Tensor = torch.linalg.qr(there.T, mode="r").R.T.contiguous()
    return coordinates.to(inputs.device)


def _factors(
    keys: Tensor, queries: Tensor, inputs: Tensor, normalised: bool, temperature: float
) -> GradientEmbedding:
    """Fill the factors, some candidates at a time."""
    size, classes = len(keys), len(queries)
    gram = (queries @ queries.T) * (inputs @ inputs.T) if normalised else None
    lengths = inputs.norm(dim=1)
    # Residuals add up to 0, so what inputs share takes no part in u but for roundings.
    centred = (inputs - inputs.mean(dim=0)) / temperature
    own = keys.new_empty(size, inputs.shape[1])
    crossed, along = (keys.new_empty(size, classes) if normalised else None for _ in range(2))
    squared, scale, residual_norms, losses = keys.new_empty(4, size)
    for part in parts_of(size, keys.device):
        cosines = keys[part] @ queries.T
        found = _classify(cosines / temperature)
        losses[part] = found.losses
        residual_norms[part] = found.residuals.norm(dim=1)
        u = torch.mm(found.residuals, centred, out=own[part])
        squared[part] = keys[part].square().sum(dim=1) * u.square().sum(dim=1)
        scale[part] = squared[part]
        if crossed is None or along is None or gram is None:
            continue
        t = torch.mul(found.residuals, cosines, out=along[part]).div_(temperature)
        w = torch.mm(u, inputs.T, out=crossed[part]).mul_(cosines)
        scale[part] += (t.abs() @ lengths).square()
        squared[part] += (t @ gram).mul_(t).sum(dim=1) - 2 * (w * t).sum(dim=1)
    return GradientEmbedding(
        keys=keys,
        inputs=own,
        crossed=crossed,
        along=along,
        gram=gram,
        squared_norms=squared.clamp_min_(0),
        scale=scale,
        residual_norms=residual_norms,
        losses=losses,
    )
