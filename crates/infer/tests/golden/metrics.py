"""Writes metrics.json: logits, labels and what scikit-learn and SciPy compute from them.

scikit-learn 1.9.1, SciPy 1.17.1, NumPy; run in this folder: python metrics.py
"""

import json

import numpy as np
import scipy.optimize
import scipy.special
import scipy.stats
import sklearn.metrics as sk

BINS = 15
rng = np.random.default_rng(12)


def confident_logits(n, classes, labels, scale):
    logits = rng.normal(size=(n, classes)) * scale
    logits[np.arange(n), labels] += 1.4 * scale
    return logits.astype(np.float32)


def nll(logits, labels, temperature=1.0):
    scaled = logits.astype(np.float64) / temperature
    return float(np.mean(scipy.special.logsumexp(scaled, axis=1) - scaled[np.arange(len(labels)), labels]))


def ece(probabilities, labels):
    """Guo et al., "On Calibration of Modern Neural Networks", equation 3, with bins ((m - 1) / M, m / M]."""
    confidence, predicted = probabilities.max(axis=1), probabilities.argmax(axis=1)
    total, edges = 0.0, np.linspace(0, 1, BINS + 1)
    for low, high in zip(edges[:-1], edges[1:]):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).mean() - confidence[inside].mean()
            total += inside.mean() * abs(gap)
    return float(total)


def single_label():
    n, classes = 150, 8
    # Class 5 has no images, class 6 is never predicted, class 7 neither occurs nor is predicted.
    labels = rng.choice(7, size=n, p=[0.3, 0.25, 0.2, 0.1, 0.1, 0.0, 0.05])
    logits = confident_logits(n, classes, labels, 3.0)
    logits[:, 6:] = -9.0
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    predicted = logits.argmax(axis=1)
    report = sk.classification_report(labels, predicted, output_dict=True, zero_division=0)
    order = np.argsort(-logits, axis=1, kind="stable")
    best = scipy.optimize.minimize_scalar(
        lambda log_t: nll(logits, labels, np.exp(log_t)), bounds=(-5, 5), method="bounded", options={"xatol": 1e-10}
    )
    temperature = float(np.exp(best.x))
    cooled = scipy.special.softmax(logits.astype(np.float64) / temperature, axis=1)
    correct = (predicted == labels).astype(np.float64)

    def f1(indices):
        return sk.f1_score(labels[indices], predicted[indices], average="macro", zero_division=0)

    resampled = [rng.integers(n, size=n) for _ in range(20_000)]
    percentiles = lambda values: [float(value) for value in np.percentile(values, [2.5, 97.5])]
    return {
        "classes": classes,
        "logits": logits.ravel().tolist(),
        "labels": labels.tolist(),
        "report": report,
        "confusion": sk.confusion_matrix(labels, predicted, labels=range(classes)).tolist(),
        "top1": 100 * sk.accuracy_score(labels, predicted),
        "top5": 100 * float(np.mean([label in row[:5] for label, row in zip(labels, order)])),
        "loss": sk.log_loss(labels, probabilities, labels=range(classes)),
        "brier": sk.brier_score_loss(labels, probabilities, labels=range(classes), scale_by_half=False),
        "ece": ece(probabilities, labels),
        "top1_interval": percentiles([100 * correct[indices].mean() for indices in resampled]),
        "macro_f1_interval": percentiles([f1(indices) for indices in resampled[:4000]]),
        "temperature": temperature,
        "cooled": {"loss": nll(logits, labels, temperature), "ece": ece(cooled, labels)},
    }


def multi_label():
    n, classes = 80, 5
    # Class 4 has no images; scores of class 2 have ties; some images have no class.
    targets = (rng.random((n, classes)) < [0.4, 0.2, 0.3, 0.1, 0.0]).astype(np.float32)
    logits = (rng.normal(size=(n, classes)) + 1.5 * targets - 0.7).astype(np.float32)
    logits[:, 2] = np.round(logits[:, 2])
    present = [int(c) for c in range(classes) if targets[:, c].any()]
    predicted = logits >= 0
    average = [sk.average_precision_score(targets[:, c], logits[:, c]) for c in present]
    auroc = [sk.roc_auc_score(targets[:, c], logits[:, c]) for c in present]
    report = sk.classification_report(targets, predicted, output_dict=True, zero_division=0)
    losses = np.logaddexp(0, logits.astype(np.float64)) - logits.astype(np.float64) * targets
    return {
        "classes": classes,
        "logits": logits.ravel().tolist(),
        "targets": targets.ravel().tolist(),
        "present": present,
        "average_precision": average,
        "mean_average_precision": float(np.mean(average)),
        "auroc": auroc,
        "macro_auroc": sk.roc_auc_score(targets[:, present], logits[:, present], average="macro"),
        "report": report,
        "loss": float(losses.mean()),
    }


def paired():
    """McNemar's exact test: only_a images are right in model a alone, only_b in model b alone."""
    test = lambda a, b: scipy.stats.binomtest(min(a, b), a + b, 0.5).pvalue if a + b else 1.0
    pairs = [(0, 0), (1, 0), (3, 9), (12, 12), (40, 71), (510, 420), (3000, 2000)]
    return [{"only_a": a, "only_b": b, "p_value": float(test(a, b))} for a, b in pairs]


with open("metrics.json", "w") as file:
    json.dump({"single_label": single_label(), "multi_label": multi_label(), "paired": paired()}, file)
    file.write("\n")
