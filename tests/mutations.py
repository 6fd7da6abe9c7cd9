"""Break every formula of theory.regression by one token, and see whether the theory tests turn red.

    python tests/mutations.py              all mutations
    python tests/mutations.py noisy 3      those of files whose path contains "noisy", and mutation number 3
    python tests/mutations.py --list       numbers, files and changes

Each mutation is applied to a temporary copy of theory/ and tests/; the working tree is not touched. Tests of the
mutated module run first, then all of tests/theory; the first failure ends the run. Prints "caught" or "SURVIVED" for
each mutation and exits with the number of survivors. A mutation that makes a test run endlessly is caught by the clock.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 600
"""A run of the tests that takes longer is taken as caught."""
FIRST = {
    "asymptotics": "test_asymptotics",
    "estimators": "test_estimators",
    "gd_plus_plus": "test_gd_plus_plus",
    "gradient_descent": "test_gradient_descent",
    "linear_attention": "test_linear_attention",
    "multi_step": "test_multi_step",
    "noisy": "test_noisy",
    "one_step": "test_one_step",
    "spectrum": "test_spectrum",
    "task": "test_regression_task",
    "wishart": "test_wishart_moments",
}
"""The test module to run first for each module of theory/regression."""


@dataclass(frozen=True)
class Mutation:
    """Replace ``old``, which occurs exactly once in the file, by ``new``."""

    module: str
    old: str
    new: str

    def apply(self, root: Path) -> None:
        """Change the file below ``root``."""
        path = root / "theory" / "regression" / f"{self.module}.py"
        source = path.read_text()
        if source.count(self.old) != 1:
            raise ValueError(f"{self.old!r} must occur once in {path.name}, got {source.count(self.old)} times")
        path.write_text(source.replace(self.old, self.new))


def _of(module: str, *changes: tuple[str, str]) -> list[Mutation]:
    return [Mutation(module, old, new) for old, new in changes]


MUTATIONS = [
    *_of(
        "task",
        ("return 1 / d, 1 / (d * (d + 2))", "return 1 / d, 1 / (d * (d + 1))"),
        ("return 1 / d, 1 / (d", "return 2 / d, 1 / (d"),
        ("math.sqrt(10 * self.gamma_shape) / d", "math.sqrt(11 * self.gamma_shape) / d"),
        ("10 * (self.gamma_shape + 1)", "10 * (self.gamma_shape - 1)"),
        ("(self.gamma_shape + 1) / (d * (d + 2))", "(self.gamma_shape + 1) / (d * (d + 3))"),
        ("return self.radial_moments[0] * self", "return self.radial_moments[1] * self"),
        ("np.sum(self.weight_covariance_matrix * self.second", "np.sum(self.weight_covariance_matrix + self.second"),
    ),
    *_of(
        "wishart",
        ("scale = d ** parts.count(0)\n    parts", "scale = n ** parts.count(0)\n    parts"),
        ("leg = m + (q > 0)", "leg = m + (q > 1)"),
        ("bottom = (2 * p - 1 + leg)", "bottom = (2 * p + 1 + leg)"),
        ("(2 * p + leg) * factorial(2 * (p - max(q, 1)))", "(2 * p + leg) * factorial(2 * (p - max(q, 0)))"),
        ("// factorial(2 * (p - q) + 1)", "// factorial(2 * (p - q) + 2)"),
        ("(2 * q - 1 + m) * (2 * q + m)", "(2 * q - 1 + m) * (2 * q - m)"),
        ("(2 * q + m) * factorial(2 * (q - 1))", "(2 * q + m) * factorial(2 * (q + 1))"),
        ("bottom *= factorial(m) * factorial(m + 1)", "bottom *= factorial(m) * factorial(m)"),
        ("value = 2 * k * total", "value = 3 * k * total"),
        ("c = 2 * (length - 1) - row", "c = 2 * (length - 1) + row"),
        ("return (c or 1) * (d + c) * (n + c)", "return (c or 1) * (d + c) * (d + c)"),
        ("c = -1 - length", "c = -2 - length"),
        ("return c * (d + c) * (n + c)", "return c * (d - c) * (n + c)"),
        ("total = (n + k - 1) * moment(k - 1)", "total = (n + k + 1) * moment(k - 1)"),
        ("moment(i, k - 1 - i) for i in range(1, k)", "moment(i, k - 1 - i) for i in range(2, k)"),
        ("total += 2 * q * _product", "total += 2 * _product"),
        ("others = rest[:j] + rest[j + 1 :]", "others = rest[:j] + rest[j:]"),
        ("sorted([*others, k - 1 + q])", "sorted([*others, k - 2 + q])"),
        ("Fraction(_trace_moment(k, d, n), d * n**k)", "Fraction(_trace_moment(k, d, n), n * n**k)"),
    ),
    *_of(
        "spectrum",
        ("t, w = _gauss(d, n, count, int(radau))", "t, w = _gauss(n, d, count, int(radau))"),
        ("w = w / t", "w = w * t"),
        ("christoffel_at_zero(count, d, n)", "christoffel_at_zero(count - 1, d, n)"),
        ("2 * count - 1 + int(radau))\n\n", "2 * count - 2 + int(radau))\n\n"),
        ("total += value * value / norm", "total += value / norm"),
        ("-alpha[k] * value - (beta[k] * before", "-alpha[k] * value + (beta[k] * before"),
        ("(beta[k] * before if k else 0)", "(beta[k] * before if k > 1 else 0)"),
        ("2 * count + shift)[shift:]", "2 * count + shift)[:]"),
        ("alpha, beta = [row[1] / row[0]], [row[0]]", "alpha, beta = [row[1] / row[0]], [row[1]]"),
        ("row[i + 2] - alpha[-1] * row[i + 1]", "row[i + 2] + alpha[-1] * row[i + 1]"),
        ("(beta[-1] * before[i + 2] if k > 1 else 0)", "(beta[-1] * before[i + 1] if k > 1 else 0)"),
        ("new[1] / new[0] - row[1] / row[0])", "new[1] / new[0] + row[1] / row[0])"),
        ("beta.append(new[0] / row[0])", "beta.append(new[0] / row[1])"),
        ("((t - a[k]) * value - drag", "((t - a[k]) * value + drag"),
        ("drag = root[k] if k else", "drag = b[k] if k else"),
        ("(value + (t - a[k]) * slope - drag", "(value + (t - a[k]) * slope + drag"),
        ("squares += value * value", "squares += value"),
        ("value, before, slope", "value, slope, before"),
        ("t -= step\n", "t += step\n"),
        ("mpmath.mpf(10) ** (-25)", "mpmath.mpf(10) ** (-2)"),
        ("weights.append(float(1 / squares))", "weights.append(float(2 / squares))"),
    ),
    *_of(
        "one_step",
        ("root = square_root(task.weight", "root = square_root(task.co"),
        ("alpha = (n - 1) / n * k1**2", "alpha = (n - 1) / n * k1"),
        ("alpha = (n - 1) / n", "alpha = (n + 1) / n"),
        ("* k1**2 + 2 * k2 / n", "* k1**2 + 3 * k2 / n"),
        ("ridge = k2 / n * theta.sum()", "ridge = k1 / n * theta.sum()"),
        ("+ task.noise_variance * k1 / n\n", "+ task.noise_variance * k2 / n\n"),
        ("preconditioner = k1 * (half", "preconditioner = k2 * (half"),
        ("((2 * k2 - k1**2) / n * theta", "((2 * k2 + k1**2) / n * theta"),
        ("* theta + ridge) / (alpha * theta + ridge))", "* theta + ridge) / (alpha * theta - ridge))"),
        ("loss = k1 * np.sum", "loss = np.sum"),
        ("np.eye(task.dim) - k1 * s @ a", "np.eye(task.dim) - k1 * a @ s"),
        ("np.eye(task.dim) - k1 * s", "np.eye(task.dim) - k2 * s"),
        ("bias = k1 * np.sum", "bias = k2 * np.sum"),
        ("spread = (2 * k2 - k1**2)", "spread = (2 * k2 - k1)"),
        ("* s @ psi @ s + (k2", "* s @ psi @ s + (k1"),
        ("+ k1 * task.noise_variance) * s", "- k1 * task.noise_variance) * s"),
        ("float(bias + k1 / m", "float(bias + k1 / task.context_length"),
        ("(spread @ a) * (a @ s)", "(spread @ a) * (s @ a)"),
    ),
    *_of(
        "multi_step",
        ("rule = spectral_quadrature(steps + 1, d, n)\n    with", "rule = spectral_quadrature(steps, d, n)\n    with"),
        ("np.prod(1 - np.multiply", "np.prod(1 + np.multiply"),
        ("float(d * rule.weights @ residual**2)", "float(n * rule.weights @ residual**2)"),
        ("float(d * rule.weights @ residual**2)", "float(d * rule.weights @ residual**4)"),
        ("radau=True).nodes[1:]", "radau=True).nodes[:-1] + 1e-9"),
        ("spectral_quadrature(steps, d, n, radau=True)", "spectral_quadrature(steps + 1, d, n, radau=False)"),
        ("MultiStepOptimum(1 / zeros[::-1]", "MultiStepOptimum(1 / zeros"),
        ("float(d * christoffel_at_zero(steps, d, n))", "float(n * christoffel_at_zero(steps, d, n))"),
        ("float(d * christoffel_at_zero(steps, d", "float(d * christoffel_at_zero(steps - 1, d"),
        ("(2 * steps - 1))", "(2 * steps))"),
        ("-(rule.weights * rule.nodes)", "-(rule.weights)"),
        ("rtol=1e-15", "rtol=1e-9"),
        ("return d * christoffel_at_zero(degree, d, n)", "return d * christoffel_at_zero(degree, n, d)"),
    ),
    *_of(
        "noisy",
        ("m = spectral_moments(d, n, 2 * steps + 1)", "m = spectral_moments(n, d, 2 * steps + 1)"),
        ("s = noise / n\n", "s = noise / d\n"),
        ("m[i + j + 2] + s * m", "m[i + j + 2] - s * m"),
        ("s * m[i + j + 1] for", "s * m[i + j + 2] for"),
        ("_solve(matrix, m[1 : steps + 1])", "_solve(matrix, m[:steps])"),
        ("bound = d * (1 - sum", "bound = d * (1 + sum"),
        ("zip(c, m[1:], strict=False)", "zip(c, m, strict=False)"),
        ("mpmath.mpf(10) ** -30", "mpmath.mpf(10) ** 30"),
        ("np.sort(1 / zeros), bound", "np.sort(zeros), bound"),
        ("(1 - np.multiply.outer(t, a)) ** multiplicities", "(1 - np.multiply.outer(t, a)) * multiplicities"),
        ("bias = np.sqrt(d * rule.weights)", "bias = np.sqrt(n * rule.weights)"),
        ("rule.weights * noise / (n * t)", "rule.weights * noise / (d * t)"),
        ("noise / (n * t)) * (1 - p)", "noise / (n * t)) * (1 + p)"),
        ("noise / (n * t)) * (1 - p)", "noise / (n * t)) * (1 - p) ** 2"),
        ("int(multiplicities.sum()) + 1, d, n", "int(multiplicities.sum()), d, n"),
        ("if value < loss * (1 - 1e-12)", "if value < loss * (1 - 1e-1)"),
        ("if 2 * fit.cost < best", "if 2 * fit.cost > best"),
        ("best, sizes = 2 * fit.cost", "best, sizes = fit.cost"),
        ("return not np.iscomplexobj", "return np.iscomplexobj"),
        ("factor = rows[i][k] / rows[k][k]", "factor = rows[k][i] / rows[k][k] * 2"),
    ),
    *_of(
        "gd_plus_plus",
        ("rule = spectral_quadrature((3**layers - 1) // 2 + 1, d, n)\n    with",
         "rule = spectral_quadrature((3**layers - 1) // 2, d, n)\n    with"),
        ("float(d * rule.weights @ residual_polynomial", "float(n * rule.weights @ residual_polynomial"),
        ("b[: layers - 1], rule.nodes) ** 2", "b[: layers - 1], rule.nodes) ** 4"),
        ("b[: layers - 1], rule", "b[:layers], rule.nodes * 1.0000001 if layers > 2 else rule"),
        ("p = p * (1 - a * t * s**2)", "p = p * (1 - a * t * s)"),
        ("p = p * (1 - a * t * s**2)", "p = p * (1 + a * t * s**2)"),
        ("s = s * (1 - a * shrinkages[layer] * t * s**2)", "s = s * (1 - shrinkages[layer] * t * s**2)"),
        ("s = s * (1 - a * shrinkages[layer] * t * s**2)", "s = s * (1 - a * shrinkages[layer] * t * s)"),
        ("s = s * (1 - a * shrinkages", "s = (1 - a * shrinkages"),
        ("du = 2 * (t * s)", "du = 3 * (t * s)"),
        ("dfactor[:, layer] -= u", "dfactor[:, layer] += u"),
        ("dshrink[:, layer] -= b[layer] * u", "dshrink[:, layer] -= a[layer] * u"),
        ("scale = np.sqrt(d * rule.weights)", "scale = np.sqrt(n * rule.weights)"),
        ("found.append((2 * float(fit.cost)", "found.append((float(fit.cost)"),
        ("bound = float(degree_bound((3**layers - 1) // 2", "bound = float(degree_bound((3**layers + 1) // 2"),
    ),
    *_of(
        "gradient_descent",
        ("float(sum(c * eta**k for", "float(sum(c * eta ** (k + 1) for"),
        ("[c * unit**k for", "[c * unit ** (k + 1) for"),
        ("slope = [k * mpmath", "slope = [(k + 1) * mpmath"),
        ("float(best * unit)", "float(best / unit)"),
        ("for z in real if z > 0", "for z in real if z > 1"),
        ('np.einsum("ji,jk,ki->i"', 'np.einsum("ij,jk,ik->i"'),
        ("sign = (-1) ** (j + k) * comb(steps, j)", "sign = (-1) ** (j - k + 1) * comb(steps, j)"),
        ("comb(steps, j) * comb(steps, k)", "comb(steps, j) * comb(steps, j)"),
        ("words.psi_word(j, k) / n ** (j + k)", "words.psi_word(j, j) / n ** (j + k)"),
        ("if noise and j and k:", "if noise and j:"),
        ("noise / n * sign", "noise / n * 2 * sign"),
        ("sigma_word(j + k - 1) / n ** (j + k - 1)", "sigma_word(j + k - 1) / n ** (j + k)"),
        ("self._lam_unit ** (j + k + 1)", "self._lam_unit ** (j + k)"),
        ('self._moment("one", 1, k, 0, (), 0)', 'self._moment("one", 0, k, 0, (), 0)'),
        ("self._moment(kind, a + 1, b + c, 0, sides, marked)", "self._moment(kind, a, b + c, 0, sides, marked)"),
        ("value = self._trace[kind](a)", "value = self._trace[kind](a + 1)"),
        ('value * self._moment("one", 1, marked', 'value * self._moment("one", 0, marked'),
        ("total = (self.n + b - 1) * plain(b - 1)", "total = (self.n + b) * plain(b - 1)"),
        ("plain(b - 2 - p, with_side(p + 1)) for p", "plain(b - 2 - p, with_side(p + 2)) for p"),
        ("total = (self.n + b - 1) * inner(b - 1, c)", "total = (self.n + b + 1) * inner(b - 1, c)"),
        ("inner(b - 2 - p, c, with_side(p + 1))", "inner(b - 2 - p, c, with_side(p + 2))"),
        ("total += plain(c - 1 - p, e=b + p) + inner", "total += plain(c - 1 - p, e=b + p) - inner"),
        ("inner(p, b + c - 1 - p)", "inner(p + 1, b + c - 2 - p)"),
        ("total += 2 * m * (plain", "total += 3 * m * (plain"),
        ("inner(b - 1 + m, c, rest))", "inner(b + m, c - 1, rest))"),
        ("total += 2 * sum(inner(i, marked", "total += sum(inner(i, marked"),
        ("marked - i + b - 1, e=0)", "marked - i + b, e=0)"),
    ),
    *_of(
        "asymptotics",
        ("loss = gamma**steps / np.sum", "loss = gamma ** (steps + 1) / np.sum"),
        ("1 / np.sum(gamma**-powers)", "1 / np.sum(gamma**powers)"),
        ("powers = np.arange(steps + 1)", "powers = np.arange(steps)"),
        ("np.arange(1, steps + 1) / (steps + 1)", "np.arange(1, steps + 1) / (steps + 2)"),
        ("1 / (1 + gamma + 2 * math", "1 / (1 + gamma - 3 * math"),
        ("(1 + mpmath.mpf(gamma)) ** 2", "(1 + mpmath.mpf(gamma)) ** 3"),
        ("mpmath.binomial(2 * steps, steps) / (steps + 1)", "mpmath.binomial(2 * steps, steps) / (steps + 2)"),
        ("* x**steps / (1 + mpmath", "* x**steps / (2 + mpmath"),
        ("mpmath.hyp2f1(1, steps + mpmath.mpf(1) / 2", "mpmath.hyp2f1(1, steps - mpmath.mpf(1) / 2"),
        ("steps + 2, 4 * x)", "steps + 1, 4 * x)"),
        ("float(tail) + max(0.0, 1 - 1 / gamma)", "float(tail) + max(0.0, 1 - gamma)"),
        ("np.full(steps, 1 / (1 + gamma))", "np.full(steps, 1 / (2 + gamma))"),
        ("bias = max(0.0, 1 - 1 / gamma)", "bias = max(0.0, 1 + 1 / gamma)"),
        ("rho * gamma / (1 - gamma) if", "rho / (1 - gamma) if"),
        ("bias + rho / (gamma - 1)", "bias + rho / (gamma + 1)"),
        ("beta = 1 / gamma - 1 + rho", "beta = 1 / gamma + 1 + rho"),
        ("math.hypot(beta, 2 * math.sqrt(rho))", "math.hypot(beta, 2 * rho)"),
        ("return 2 * rho / (beta + root)", "return 2 * rho / (beta - root)"),
        ("else (root - beta) / 2", "else (root + beta) / 2"),
    ),
    *_of(
        "estimators",
        ("bias = task.signal * max(0.0, 1 - n / d)", "bias = task.signal * max(0.0, 1 - d / n)"),
        ("if abs(n - d) <= 1:", "if abs(n - d) <= 0:"),
        ("(d if n > d else n) * noise", "(d if n < d else n) * noise"),
        ("(abs(n - d) - 1)", "(abs(n - d) + 1)"),
        ("penalty = d * noise / (n * signal)", "penalty = n * noise / (d * signal)"),
        ("first_factor = d * noise / n / lam", "first_factor = noise / n / lam"),
        ("second_factor = signal - first_factor", "second_factor = signal + first_factor"),
        ("small, large = min(d, n), max(d, n)", "small, large = d, n"),
        ("(lam / (large / n * rule.nodes + lam)) ** power", "(lam / (rule.nodes + lam)) ** power"),
        ("(large / n * rule", "(n / large * rule"),
        ("return 1 - small / d + small / d *", "return small / d + small / d *"),
        ("small / d * np.array(parts)", "small / n * np.array(parts)"),
        ("return integral(1), integral(2)", "return integral(2), integral(2)"),
        ("float(low + high) / 2", "float(low + high) / 3"),
        ("float(high - low) / 2", "float(high - low) / 20"),
        ("Estimate(task.signal * (1 - n / d)", "Estimate(task.signal * (1 - 1 / d)"),
        ("if task.noise_variance == 0 and n >= d:", "if task.noise_variance == 0 and n > d:"),
    ),
    *_of(
        "linear_attention",
        ("one_step_risk(task, -q[0].sum(0))", "one_step_risk(task, q[0].sum(0))"),
        ("one_step_risk(task, -q[0].sum(0))", "one_step_risk(task, -q[0][0])"),
        ("p[:, d, :d], p[:, d, d]", "p[:, :d, d], p[:, d, d]"),
        ("block, row = q[:, :d, :d], q[:, d, :d]", "block, row = q[:, :d, :d], q[:, :d, d]"),
        ("effective = -(np.einsum", "effective = (np.einsum"),
        ("spread = sms + s_matrix @ m.T @ s_matrix", "spread = sms + s_matrix @ m @ s_matrix"),
        ("+ np.sum(m * s_matrix) * s_matrix\n        return", "- np.sum(m * s_matrix) * s_matrix\n        return"),
        ("(k2 * spread + (n - 1) * k1**2 * sms) / n", "(k2 * spread + n * k1**2 * sms) / n"),
        ("plain + 2 * s_matrix @ m @ s_matrix", "plain + s_matrix @ m @ s_matrix"),
        ("(n - 1) * k1**2 * plain) / n", "(n - 1) * k1 * plain) / n"),
        ("mean_w = k1 * s_matrix", "mean_w = k2 * s_matrix"),
        ("s_w = trace_w(psi) + noise * mean_w", "s_w = trace_w(psi) - noise * mean_w"),
        ("+ 2 * noise * signal + noise**2", "+ 2 * noise * signal + noise"),
        ("+ 2 * noise * signal +", "+ 3 * noise * signal +"),
        ("+ 2 * float(np.sum(psi * w_m_w(psi)))", "+ float(np.sum(psi * w_m_w(psi)))"),
        ("+ 4 * noise / n * signal", "+ 2 * noise / n * signal"),
        ("+ 2 * noise**2 / n", "+ 3 * noise**2 / n"),
        ("even = s_squared * c @ mean_w @ c", "even = s_squared * c @ c"),
        ("even += 2 * c @ mean_w", "even += c @ mean_w"),
        ("@ block[h].T @ s_w", "@ block[h] @ s_w"),
        ("block[h] @ mean_w @ block[g].T) @ p1[g]", "block[h] @ mean_w @ block[g].T) @ p1[h]"),
        ("near_p = np.multiply.outer(b", "near_p = np.multiply.outer(a"),
        ("a, b, distance = _nearest_scalars(inverse @ value @ root, root @ key_query @ root)",
         "a, b, distance = _nearest_scalars(inverse @ value @ root, inverse @ key_query @ root)"),
        ("near_q = -np.multiply", "near_q = np.multiply"),
        ("Estimate(exact + mean.value", "Estimate(exact - mean.value"),
        ("a = -np.trace(key_query.sum(1)", "a = np.trace(key_query.sum(1)"),
        ("product = -np.einsum", "product = np.einsum"),
        ("norm(np.where(a == 0, product", "norm(np.where(a == 1, product"),
        ("off += np.linalg.norm(value[:-1, 0] - b", "off += np.linalg.norm(value[:-1, 0] * 0 * b"),
        ("off = np.linalg.norm(key_query.sum(1) + a", "off = np.linalg.norm(key_query.sum(1) * 0 * a"),
        ("(3**layers - 1) // 2\n", "(2**layers - 1) // 2\n"),
        ("task.dim * task.noise_variance / task.context_length * (1 - p) ** 2",
         "task.noise_variance / task.context_length * (1 - p) ** 2"),
        ("* (1 - p) ** 2 / rule.nodes", "* (1 - p) ** 2"),
        ("(task.signal * p**2 + spread)", "(task.dim * p**2 + spread)"),
        ("k = key_query[layer].sum(0)", "k = key_query[layer].mean(0)"),
        ("new = d_matrix + (eye + d_matrix @ wisharts)", "new = d_matrix + (eye - d_matrix @ wisharts)"),
        ("@ s_t @ k @ s\n", "@ s @ k @ s\n"),
        ("s = s + sum(b @ w_layer @ q", "s = s + sum(b @ wisharts @ q"),
        ("s = s + sum(b @ w_layer @ q", "s = s - sum(b @ w_layer @ q"),
        ("c = eye + wisharts @ d_matrix", "c = eye - wisharts @ d_matrix"),
        ("np.einsum(\"ij,bjk,kl,bil->b\", psi", "np.einsum(\"ij,bkj,kl,bil->b\", psi"),
        ("risk + task.noise_variance / task.context_length * noise", "risk + task.noise_variance / task.dim * noise"),
        ("np.sqrt(task.noise_variance) * rng", "task.noise_variance * rng"),
        ("gram = np.swapaxes(z, -1, -2) @ z / n", "gram = np.swapaxes(z, -1, -2) @ z / d"),
        ("gram = t @ gram @ np.swapaxes(t, -1, -2)", "gram = t @ gram @ t"),
        ("row = t @ row", "row = row @ t"),
        ("miss = -row[:, d, :d] - w", "miss = row[:, d, :d] - w"),
        ("scale = np.sqrt(10 / task.gamma_shape)", "scale = np.sqrt(11 / task.gamma_shape)"),
        ("return np.swapaxes(x, -1, -2) @ x / n", "return np.swapaxes(x, -1, -2) @ x / d"),
        ("np.sqrt(rng.chisquare(n - index", "np.sqrt(rng.chisquare(n + index"),
        ("return factor @ np.swapaxes(factor, -1, -2) / n", "return factor @ np.swapaxes(factor, -1, -2) / (n + 1)"),
        ("values.std(ddof=1) / np.sqrt(len(values))", "values.std(ddof=1) / len(values)"),
    ),
]  # fmt: skip


def _tests_fail(root: Path, arguments: list[str]) -> bool:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-n0",
        "-p",
        "no:cacheprovider",
        "--hypothesis-profile=mutations",
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        result = subprocess.run([*command, *arguments], cwd=root, timeout=SECONDS, **quiet)
    except subprocess.TimeoutExpired:
        return True
    if result.returncode not in (0, 1, 2):  # 1: tests failed, 2: interrupted by an error while collecting
        raise RuntimeError(f"pytest ended with code {result.returncode}")
    return result.returncode != 0


def _copy(root: Path) -> None:
    for folder in ("theory", "tests"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)


def survives(mutation: Mutation) -> bool:
    """Whether the tests stay green with this mutation."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _copy(root)
        mutation.apply(root)
        first = f"tests/theory/regression/{FIRST[mutation.module]}.py"
        return not _tests_fail(root, [first]) and not _tests_fail(root, ["tests/theory", f"--deselect={first}"])


def main(arguments: list[str]) -> int:
    """Run the chosen mutations; return the number of survivors."""
    chosen = [
        (number, mutation)
        for number, mutation in enumerate(MUTATIONS)
        if not arguments or str(number) in arguments or any(word in mutation.module for word in arguments)
    ]
    if "--list" in arguments:
        for number, mutation in enumerate(MUTATIONS):
            print(f"{number:3} {mutation.module:18} {mutation.old!r} -> {mutation.new!r}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        _copy(Path(folder))
        if _tests_fail(Path(folder), ["tests/theory"]):
            raise RuntimeError("tests/theory must pass before it is asked to fail")
    survivors = 0
    for number, mutation in chosen:
        started = time.monotonic()
        survived = survives(mutation)
        survivors += survived
        verdict = "SURVIVED" if survived else "caught"
        print(
            f"{number:3} {verdict:8} {time.monotonic() - started:5.1f} s  {mutation.module}: "
            f"{mutation.old!r} -> {mutation.new!r}",
            flush=True,
        )
    print(f"{len(chosen) - survivors} of {len(chosen)} mutations caught")
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
