"""Writes tests/fixtures.json: allocation problems solved by independent solvers through cvxpy.

The problems are stated here from the mathematics (absolute values and positive parts of one weight vector), not from
the cone program of the crate. Each is solved by two solvers, neither of which is the crate's; the file keeps the
answer only if both agree on the objective to 1e-6 relative.

    pip install cvxpy==1.9.3 ecos scs osqp piqp highspy scikit-learn numpy
    python make_fixtures.py > fixtures.json
"""

import json
import sys

import cvxpy as cp
import numpy as np
from sklearn.covariance import LedoitWolf

BORROW_EPSILON = 1e-6
SECTORS = ["energy", "fin", "health", "tech"]


def rounded(x):
    return [float(f"{v:.6g}") for v in np.ravel(x)]


def make(rng, kind, n):
    k = 4
    f = np.column_stack([0.01 * (1 + 0.3 * rng.standard_normal(n)), 0.004 * rng.standard_normal((n, k - 1))])
    risk = {"factors": k, "exposures": rounded(f), "specific": rounded(rng.uniform(0.008, 0.03, n) ** 2)}
    names = []
    for i in range(n):
        names.append({
            "symbol": f"N{i:02d}",
            "expected_return": rounded(0.004 * rng.standard_normal())[0],
            "current_weight": rounded(0.02 * rng.standard_normal())[0] if rng.random() < 0.5 else 0.0,
            "shortable": bool(rng.random() < 0.8),
            "cost": rounded(rng.uniform(2e-4, 2e-3))[0],
            "borrow_fee": rounded(rng.uniform(0, 5e-4))[0],
            "max_trade": rounded(rng.uniform(0.02, 0.3))[0],
            "groups": {"group_sector": SECTORS[rng.integers(4)]},
            "factors": {"factor_beta": rounded(1 + 0.3 * rng.standard_normal())[0]},
        })
    limits = {
        "weight_bounds": [-0.1, 0.12],
        "gross": 1.2,
        "net": [-0.1, 0.3],
        "cash": {"reserve": 0.05, "short_margin": 0.5},
        "max_turnover": 0.4,
        "groups": {"group_sector": {"tech": {"net": [-0.1, 0.1], "gross": 0.3}, "*": [-0.15, 0.15]}},
        "factors": {"factor_beta": [-0.2, 0.2]},
    }
    problem = {"names": names, "method": kind, "risk": risk, "limits": limits, "risk_aversion": 5.0}
    if kind == "target_vol":
        problem["method"] = "mean_variance"
        problem["risk_aversion"] = 0.5
        limits["target_vol"] = 0.004
    if kind == "dense":
        problem["method"] = "mean_variance"
        a = rng.standard_normal((3 * n, n)) * 0.015
        sigma = a.T @ a / (3 * n)
        sigma = (sigma + sigma.T) / 2
        chol = np.array(rounded(np.linalg.cholesky(sigma))).reshape(n, n)
        problem["risk"] = {"factors": n, "exposures": rounded(chol), "specific": [0.0] * n}
    if kind in ("min_variance", "risk_parity"):
        problem["limits"] = {"weight_bounds": [0.0, 0.35], "gross": 1.0, "net": [1.0, 1.0]}
        problem["limits"]["groups"] = {"group_sector": {"*": [0.0, 0.6]}}
        for name in names:
            name.update(cost=0.0, current_weight=0.0, max_trade=None)
            name["expected_return"] = abs(name["expected_return"])
    if kind == "cvar":
        problem["risk_aversion"] = 1.0
        problem["cvar_level"] = 0.9
        t = rng.standard_t(4, (60, k)) @ f.T + rng.standard_normal((60, n)) * 0.015
        problem["scenarios"] = {"names": n, "returns": rounded(t)}
        del problem["risk"]
    return problem


def parity_target(sigma, gross):
    """Equal risk contributions by the logarithmic barrier."""
    n = len(sigma)
    scaled = sigma / np.mean(np.diag(sigma))
    x = cp.Variable(n)
    barrier = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, cp.psd_wrap(scaled)) - cp.sum(cp.log(x)) / n))
    barrier.solve(solver="ECOS", abstol=1e-12, reltol=1e-12, feastol=1e-12)
    return gross * x.value / x.value.sum()


def statement(problem):
    names, limits = problem["names"], problem["limits"]
    n = len(names)
    column = lambda key: np.array([name[key] for name in names])
    mu, w0, cost, fee = (column(k) for k in ("expected_return", "current_weight", "cost", "borrow_fee"))
    lower, upper = limits["weight_bounds"]
    lo = np.where(column("shortable"), lower, 0.0)
    lo, hi = np.minimum(lo, np.minimum(w0, 0)), np.maximum(upper, np.maximum(w0, 0))
    w = cp.Variable(n)
    trade = w - w0
    rules = [w >= lo, w <= hi, cp.norm1(w) <= limits["gross"]]
    net = cp.sum(w)
    rules += [net == limits["net"][0]] if limits["net"][0] == limits["net"][1] else [net >= limits["net"][0], net <= limits["net"][1]]
    for i, name in enumerate(names):
        if name["max_trade"] is not None:
            rules.append(cp.abs(trade[i]) <= name["max_trade"])
    if "cash" in limits:
        cash = limits["cash"]
        rules.append(cp.sum(cp.pos(w)) + cash["short_margin"] * cp.sum(cp.neg(w)) <= 1 - cash["reserve"])
    if "max_turnover" in limits:
        rules.append(0.5 * cp.norm1(trade) <= limits["max_turnover"])
    sector = np.array([name["groups"]["group_sector"] for name in names])
    groups = limits.get("groups", {}).get("group_sector", {})
    for s in sorted(set(sector)):
        limit = groups.get(s, groups.get("*"))
        if limit is None:
            continue
        if isinstance(limit, list):
            limit = {"net": limit}
        rules += [cp.sum(w[sector == s]) >= limit["net"][0], cp.sum(w[sector == s]) <= limit["net"][1]]
        if "gross" in limit:
            rules.append(cp.norm1(w[sector == s]) <= limit["gross"])
    for key, (low, high) in limits.get("factors", {}).items():
        beta = np.array([name["factors"][key] for name in names])
        rules += [beta @ w >= low, beta @ w <= high]
    gamma = problem["risk_aversion"]
    if problem["method"] == "cvar":
        returns = np.array(problem["scenarios"]["returns"]).reshape(-1, n)
        level = problem["cvar_level"]
        threshold = cp.Variable()
        risk = gamma * (threshold + cp.sum(cp.pos(-returns @ w - threshold)) / ((1 - level) * len(returns)))
    else:
        f = np.array(problem["risk"]["exposures"]).reshape(n, -1)
        d = np.array(problem["risk"]["specific"])
        variance = cp.sum_squares(f.T @ w) + cp.sum_squares(cp.multiply(np.sqrt(d), w))
        risk = gamma / 2 * variance
        if "target_vol" in limits:
            spread = cp.hstack([f.T @ w, cp.multiply(np.sqrt(d), w)])
            rules.append(cp.norm(spread) <= limits["target_vol"])
    if problem["method"] == "min_variance":
        mu = np.zeros(n)
    if problem["method"] == "risk_parity":
        sigma = f @ f.T + np.diag(d)
        mu = gamma * sigma @ parity_target(sigma, limits["gross"])
    plain = risk - mu @ w + fee @ cp.neg(w) + cost @ cp.abs(trade)
    # In basis points, as solvers' tolerances are absolute.
    return w, plain, cp.Problem(cp.Minimize(1e4 * (plain + BORROW_EPSILON * cp.sum(cp.neg(w)))), rules)


def solve(problem):
    conic = "target_vol" in problem["limits"]
    first = ("ECOS", dict(abstol=1e-11, reltol=1e-11, feastol=1e-11))
    second = ("SCS", dict(eps_abs=1e-9, eps_rel=1e-9, max_iters=500_000)) if conic else (
        "PIQP", dict(eps_abs=1e-10, eps_rel=1e-11, max_iter=1000))
    answers = []
    for solver, options in (first, second):
        w, plain, program = statement(problem)
        program.solve(solver=solver, **options)
        if program.status not in ("optimal", "optimal_inaccurate"):
            return program.status
        answers.append((float(plain.value), w.value))
    (a, w), (b, _) = answers
    if abs(a - b) > 1e-6 * max(abs(a), 1e-4):
        return f"solvers differ by {abs(a - b):.1e} of {a:.1e}"
    return {"problem": problem, "objective": a, "weights": [round(float(x), 9) for x in w],
            "strictly_convex": problem["method"] != "cvar"}


def covariances(rng):
    for dates, n in ((40, 12), (22, 30)):
        returns = np.array(rounded(0.01 * rng.standard_normal((dates, 3)) @ rng.standard_normal((3, n)) + 0.01 * rng.standard_normal((dates, n)))).reshape(dates, n)
        yield {"names": n, "returns": returns.ravel().tolist(), "covariance": [float(f"{v:.12g}") for v in LedoitWolf().fit(returns).covariance_.ravel()]}


def readable(value, depth=0, width=160):
    """JSON that a diff can show: what fits into a line stands in one, numbers of a long list fill lines."""
    line = json.dumps(value)
    if not isinstance(value, (dict, list)) or len(line) + 2 * depth <= width:
        return line
    pad, end = "  " * (depth + 1), "\n" + "  " * depth
    if isinstance(value, dict):
        parts = [json.dumps(key) + ": " + readable(item, depth + 1) for key, item in value.items()]
        return "{\n" + ",\n".join(pad + part for part in parts) + end + "}"
    parts = [readable(item, depth + 1) for item in value]
    if all(isinstance(item, (int, float)) for item in value):
        lines = [""]
        for part in parts:
            if lines[-1] and len(lines[-1]) + len(part) + 2 > width - 2 * depth:
                lines.append("")
            lines[-1] += (", " if lines[-1] else "") + part
        parts = lines
    return "[\n" + ",\n".join(pad + part for part in parts) + end + "]"


def main():
    rng = np.random.default_rng(20261121)
    wanted = {"mean_variance": 20, "dense": 6, "target_vol": 6, "min_variance": 6, "risk_parity": 6, "cvar": 6}
    cases = []
    for kind, count in wanted.items():
        while count:
            case = solve(make(rng, kind, int(rng.integers(4, 31))))
            if isinstance(case, str):
                print(kind, case, file=sys.stderr)
                continue
            cases.append(case)
            count -= 1
    print(readable({"cases": cases, "ledoit_wolf": list(covariances(rng))}))


main()
