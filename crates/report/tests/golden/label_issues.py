"""Makes label_issues.json: label-quality scores and suspects of cleanlab for probabilities of some images.

    pip install cleanlab numpy
    python label_issues.py
"""

import json
import pathlib

import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores

random = np.random.default_rng(7)
images, classes = 90, 4
labels = random.integers(0, classes, images)
logits = random.normal(0, 1.2, (images, classes))
logits[np.arange(images), labels] += 2.2
given = labels.copy()
wrong = random.choice(images, 12, replace=False)
given[wrong] = (given[wrong] + 1 + random.integers(0, classes - 1, 12)) % classes
logits = logits.astype(np.float32)
values = logits.astype(np.float64)
probabilities = np.exp(values) / np.exp(values).sum(1, keepdims=True)

score = lambda method: get_label_quality_scores(given, probabilities, method=method, adjust_pred_probs=False).tolist()
issues = find_label_issues(given, probabilities, filter_by="confident_learning", min_examples_per_class=0)
golden = {
    "classes": classes,
    "labels": given.tolist(),
    "logits": [float(value) for value in logits.ravel()],
    "self_confidence": score("self_confidence"),
    "normalized_margin": score("normalized_margin"),
    "issues": np.flatnonzero(issues).tolist(),
}
path = pathlib.Path(__file__).with_name("label_issues.json")
path.write_text(json.dumps(golden) + "\n")
print(path, len(golden["issues"]), "issues")
