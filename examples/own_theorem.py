"""Your own theorem: a transformer trained on N(0, I) and tested on N(0, 2 I) has the risk R(A*) of the test task."""

from plumbline import Evidence, Expectation, check, claim
from plumbline.analysis import regression

TRAIN, TEST = regression.RegressionTask(2, 12), regression.RegressionTask(2, 12, covariance=[[2, 0], [0, 2]])


@claim(
    rule=Expectation, status="derived here", source="me, yesterday",
    statement="Trained on N(0, I) and tested on N(0, 2 I), the risk is R(A*) of the test task.",
    rivals={"scales like the labels": "twice the training risk"}, cases=lambda budget: {"d=2, n=12": (TRAIN, TEST)},
)  # fmt: skip
def covariate_shift(case, budget, seed):
    train, test = case
    trained = yield regression.TrainLinearTransformer(task=train, seed=seed)
    weights = trained["key_query"][0].tolist()
    sampled = yield regression.SampledRisk(task=test, predictor="transformer", key_query=weights, seed=seed)
    best = regression.one_step_optimum(train)
    return Evidence(
        rule=Expectation(0.05, scale=regression.zero_predictor_risk(test), draws_per_batch=4000),
        measured=sampled["batch_means"],
        predicted=regression.one_step_risk(test, best.preconditioner),
        rivals=[2 * best.loss],
    )


if __name__ == "__main__":
    print(check([covariate_shift])[0].verdict.reason)
