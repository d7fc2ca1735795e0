"""Made features with planted heads and CheXpert's label rates: what CFT is measured on where no images are needed.

Features are correlated and skewed like a network's pooled activations. A label follows a planted weight and noise; how
likely it is to be known depends on the label and on the features (a report mentions what it sees, and what somebody
looked for), 3 % of the known ones are wrong, and the trained head is the logistic regression that blanks assumed
negative teach. Validation and test have every label, without error.
"""

from dataclasses import dataclass

import numpy as np
import torch

from cxr_cft.data.phantoms.hiding import label_rates

CHUNK = 16_384


@dataclass
class Planted:
    train: tuple
    valid: tuple
    test: tuple
    weight: np.ndarray
    bias: np.ndarray
    names: list


def planted(seed, rows=223_414, features=1024, categories=None, valid=234, test=20_000, steps=25):
    """(rows, features) and labels of `categories` columns: CheXpert's 14, or as many as asked for in their turn."""
    generator = torch.Generator().manual_seed(seed)
    rates = label_rates()
    names = list(rates) if categories is None else [list(rates)[c % len(rates)] for c in range(categories)]
    positive, negative = (torch.tensor([rates[name][state] for name in names]) for state in ("positive", "negative"))
    mixing = _normal(generator, features, features) * torch.arange(1, features + 1).float()[:, None] ** -0.5
    mixing *= features**0.5 / mixing.norm()
    finding, attention = _normal(generator, features, len(names)), _normal(generator, features, len(names))

    def draw(number):
        drawn = torch.empty(number, features)
        for chunk in drawn.split(CHUNK):
            torch.mm(_normal(generator, *chunk.shape), mixing, out=chunk)
        drawn += 0.3
        return drawn.relu_()

    train, valid, test = draw(rows), draw(valid), draw(test)
    sample = train[:CHUNK]
    center, spread = sample.mean(0), sample.std(0)
    finding /= ((sample - center) @ finding).std(0)
    attention /= ((sample - center) @ attention).std(0)
    prevalence = (1.6 * positive).clamp(0.05, 0.65)
    threshold = torch.special.ndtri(1 - prevalence) * 1.36**0.5

    def truth(values):
        score = (values - center) @ finding + 0.6 * _normal(generator, len(values), len(names))
        return (score > threshold).float()

    labels = truth(train)
    looked = torch.sigmoid(1.5 * ((train - center) @ attention))
    mention = torch.where(labels > 0, positive / prevalence, negative / (1 - prevalence)) * looked / looked.mean(0)
    known = torch.rand(labels.shape, generator=generator) < mention
    wrong = torch.rand(labels.shape, generator=generator) < 0.03
    told = torch.where(known, torch.where(wrong, 1 - labels, labels), torch.nan)
    weight, bias = _assume_negative(train, told, center, spread, steps)
    parts = [(values.numpy(), truth(values).numpy()) for values in (valid, test)]
    return Planted((train.numpy(), told.numpy()), *parts, weight.numpy(), bias.numpy(), names)


def _assume_negative(features, labels, center, spread, steps):
    """Logistic regressions on blanks as negatives, by a few preconditioned steps; none needs to be exact."""
    target = labels.nan_to_num()
    sample = (features[: 2 * CHUNK] - center) / spread
    inverse = torch.linalg.inv(sample.T @ sample / len(sample) + 1e-3 * torch.eye(len(center)))
    rate = target.mean(0).clamp(1e-4, 1 - 1e-4)
    size = 0.5 / (rate * (1 - rate)).clamp(min=0.02)
    weight, bias = torch.zeros(len(center), len(rate)), torch.special.logit(rate)
    for _ in range(steps):
        slope, shift = torch.zeros_like(weight), torch.zeros_like(bias)
        for values, wanted in zip(features.split(CHUNK), target.split(CHUNK), strict=True):
            scaled = (values - center) / spread
            residual = torch.sigmoid(scaled @ weight + bias) - wanted
            slope += (residual.T @ scaled).T
            shift += residual.sum(0)
        weight -= size * (inverse @ slope) / len(features)
        bias -= size * shift / len(features)
    weight = (weight / spread[:, None]).T.contiguous()
    return weight, bias - weight @ center


def _normal(generator, *shape):
    return torch.randn(*shape, generator=generator)
