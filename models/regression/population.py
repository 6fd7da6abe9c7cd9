"""The exact population risk of one layer of linear attention, differentiable in its weights."""

from __future__ import annotations

import torch
from torch import Tensor

from plumbline.models.tensors import constant
from plumbline.theory.regression.task import RegressionTask


def one_step_population_risk(preconditioner: Tensor, task: RegressionTask) -> Tensor:
    r"""Return the exact risk of the predictor r^T A x_q, r = (1/n) ∑ y_i x_i.

    .. math:: R(A) = k_1 tr[Ψ E S E^T] + k_1 tr[Γ' A S A^T], \quad E = I - k_1 S A, \\
              Γ' = \tfrac{2 k_2 - k_1²}{n} S Ψ S + \tfrac{k_2 tr(Ψ S) + k_1 σ²}{n} S

    Both terms are far from cancelling, however large n and however near A to the optimum. For Gaussian covariates
    k1 = k2 = 1. Valid for every covariate law, covariance, weight covariance and noise of a task.

    Args:
        preconditioner: A (d, d), not necessarily symmetric.
        task: The data distribution.

    Returns:
        Scalar tensor.

    Source:
        Derived here; for isotropic weights Ahn et al. 2023 (2306.00297), Theorem 1.

    Example:
        >>> task = RegressionTask(5, 20)
        >>> round(float(one_step_population_risk(10 / 13 * torch.eye(5, dtype=torch.float64), task)), 12)
        1.153846153846
    """
    n = task.context_length
    k1, k2 = task.radial_moments
    s = constant(task.covariance_matrix, preconditioner)
    psi = constant(task.weight_covariance_matrix, preconditioner)
    signal = (psi * s).sum()
    spread = ((2 * k2 - k1**2) * s @ psi @ s + (k2 * signal + k1 * task.noise_variance) * s) / n
    miss = torch.eye(task.dim, dtype=s.dtype, device=s.device) - k1 * s @ preconditioner
    return k1 * ((psi @ miss @ s) * miss + (spread @ preconditioner @ s) * preconditioner).sum()


def full_population_risk(rows: Tensor, key_query: Tensor, task: RegressionTask) -> Tensor:
    r"""Return the exact risk of one layer with full weights, E (prediction - w·x_q)².

    The prediction is -(∑_h p_h^T G Q_h) (x_q, 0) with the Gram matrix G of the examples. Write p = (p1, p2) and
    [A; a^T] for the first d columns of Q. The part odd in (w, ε) is the one-step predictor with

    .. math:: A_{eff} = -∑_h (p_2 A + p_1 a^T);

    the even part u^T x_q, u = ∑_h A^T W p_1 + p_2 s a, s = (1/n) ∑ y_i², is uncorrelated with it and with the
    target, so that the risk is R(A_eff) + E u^T Σ u. With the moments of W and s, each exact for x = S^{1/2} z and
    rotation invariant z, and for Gaussian w and ε:

    .. math:: E[W M W] &= \tfrac{n-1}{n} k_1² S M S + \tfrac{k_2}{n} (S (M + M^T) S + tr(M S) S), \\
              E[s W] &= E[tr(Ψ W) W] + σ² E W, \\
              E[s²] &= E[(tr Ψ W + σ²)²] + 2 E tr(Ψ W Ψ W) + \tfrac{4 σ²}{n} E tr(Ψ W) + \tfrac{2 σ⁴}{n}.

    Args:
        rows: (heads, d+1), the last row p of each P.
        key_query: (heads, d+1, d+1), the Q.
        task: The data distribution.

    Returns:
        Scalar tensor.

    Source:
        Derived here.
    """
    d, n, noise = task.dim, task.context_length, task.noise_variance
    k1, k2 = task.radial_moments
    s = constant(task.covariance_matrix, rows)
    psi = constant(task.weight_covariance_matrix, rows)
    p1, p2 = rows[:, :d], rows[:, d]
    block, row = key_query[:, :d, :d], key_query[:, d, :d]

    apart, paired = (n - 1) / n * k1**2, k2 / n  # of two different examples, and of an example with itself
    sps = s @ psi @ s
    signal = (psi * s).sum()
    trace_w = apart * signal * s + paired * (2 * sps + signal * s)  # E tr(Ψ W) W
    w_psi_w = apart * sps + paired * (2 * sps + signal * s)  # E W Ψ W
    s_w = trace_w + noise * k1 * s
    s_squared = ((trace_w + 2 * w_psi_w) * psi).sum() + (2 + 4 / n) * noise * k1 * signal + (1 + 2 / n) * noise**2

    # Over pairs of heads (g, h): p_g^T E[W M W] p_h with M = A_g Σ A_h^T.
    middle = k1 * block.unsqueeze(1) @ s @ block.mT
    sp = p1 @ s
    straight = torch.einsum("gi,ghij,hj", sp, middle, sp)
    crossed = torch.einsum("gj,ghij,hi", sp, middle, sp)
    traced = (sp @ p1.mT * (middle * s).sum((-2, -1))).sum()
    c = p2 @ row
    mixed = torch.einsum("hi,ij,hjk,k", p1, s_w, block, k1 * s @ c)
    even = (apart + paired) * straight + paired * (crossed + traced) + 2 * mixed + s_squared * k1 * (c @ s @ c)

    effective = -(torch.einsum("h,hij->ij", p2, block) + p1.mT @ row)
    return one_step_population_risk(effective, task) + even
