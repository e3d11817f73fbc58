"""Writes schedules.json beside this script: the learning rates of torch's and timm's schedulers.

    python make_schedules.py            (needs torch, timm)

Every case has its recipe (TOML), the steps of an epoch and the rate of every step; a plateau also the metric after every epoch.
Where timm's epochs mean something else than a recipe's, the script says how: the recipe's are those of the whole run.
"""

import json
import warnings
from pathlib import Path

import torch
from timm.scheduler import create_scheduler_v2
from torch.optim import lr_scheduler as torch_schedulers

HERE = Path(__file__).resolve().parent
EPOCH_STEPS = 4
LR = 0.4


def optimizer(lr=LR):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def timm(epochs, sched, per_step, **settings):
    """The rates of all steps of timm's scheduler, and its number of epochs."""
    rule = optimizer()
    scheduler, total = create_scheduler_v2(
        rule, sched, num_epochs=epochs, step_on_epochs=not per_step, updates_per_epoch=EPOCH_STEPS, **settings
    )
    rates = []
    for step in range(total * EPOCH_STEPS):
        if per_step:
            scheduler.step_update(step)
        else:
            scheduler.step(step // EPOCH_STEPS)
        rates.append(rule.param_groups[0]["lr"])
    return rates, total


def torch_rates(count, make):
    """The rates of `count` steps of torch's scheduler."""
    rule = optimizer()
    scheduler = make(rule)
    rates = []
    for _ in range(count):
        rates.append(rule.param_groups[0]["lr"])
        rule.step()
        scheduler.step()
    return rates


def case(rates, **recipe):
    lines = {"lr": LR} | recipe
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines.items())
    return {"recipe": text, "epoch_steps": EPOCH_STEPS, "lr": rates}


def timm_cases():
    for per_step in (True, False):
        when = "steps" if per_step else "epochs"
        common = {"sched_on_updates": per_step}
        warm = {"warmup_epochs": 3, "warmup_lr": 0.01}
        for sched, settings, ours in (
            ("cosine", {"min_lr": 0.02}, {}),
            ("cosine", {"min_lr": 0.02} | warm, {"warmup_prefix": False}),
            ("cosine", {"min_lr": 0.02, "warmup_prefix": True} | warm, {}),
            ("cosine", {"min_lr": 0.02, "cooldown_epochs": 2}, {}),
            ("cosine", {"min_lr": 0.02, "k_decay": 1.5}, {}),
            ("poly", {"min_lr": 0.02, "decay_rate": 2.0} | warm, {"warmup_prefix": False}),
            ("poly", {"min_lr": 0.0, "decay_rate": 0.9, "k_decay": 2.0}, {}),
            ("step", {"decay_epochs": 3, "decay_rate": 0.3}, {}),
            ("step", {"decay_epochs": 2.5, "decay_rate": 0.3} | warm, {}),
            ("step", {"decay_epochs": 2, "decay_rate": 0.3, "warmup_prefix": True} | warm, {}),
            ("constant", warm, {"warmup_prefix": False}),
        ):
            cycles = {"cycle_limit": 1, "cycle_mul": 1.0, "cycle_decay": 0.5}
            rates, total = timm(8, sched, per_step, **({"warmup_epochs": 0, "min_lr": 0.0} | cycles | settings))
            recipe = {"sched": sched, "epochs": total} | common
            names = {"decay_rate": "gamma", "k_decay": "lr_k_decay"}
            if sched == "poly":
                names["decay_rate"] = "poly_power"
            recipe |= {names.get(key, key): value for key, value in settings.items()} | ours
            name = ", ".join([f"timm {sched} by {when}", *(f"{key} {value}" for key, value in settings.items())])
            yield name, case(rates, **recipe)
        # timm's 8 epochs are the first cycle.
        for sched, limit, mul in (("cosine", 3, 1.0), ("cosine", 3, 2.0), ("poly", 2, 3.0)):
            settings = {"lr_cycle_limit": limit, "lr_cycle_mul": mul, "lr_cycle_decay": 0.7, "min_lr": 0.001}
            rates, total = timm(
                8, sched, per_step, cycle_limit=limit, cycle_mul=mul, cycle_decay=0.7, min_lr=0.001, warmup_epochs=0,
                decay_rate=1.0,
            )  # fmt: skip
            name = f"timm {sched} by {when}, {limit} cycles, each {mul} times as long"
            yield name, case(rates, sched=sched, epochs=total, **common, **settings)


def torch_cases():
    epochs = 8
    steps = epochs * EPOCH_STEPS
    rates = torch_rates(steps, lambda rule: torch_schedulers.StepLR(rule, 5, gamma=0.5))
    yield "torch StepLR", case(rates, sched="step", epochs=epochs, decay_steps=5, gamma=0.5)
    rates = torch_rates(steps, lambda rule: torch_schedulers.MultiStepLR(rule, [3, 9, 20], gamma=0.5))
    yield "torch MultiStepLR", case(rates, sched="multistep", epochs=epochs, milestone_steps=[3, 9, 20], gamma=0.5)
    rates = torch_rates(steps, lambda rule: torch_schedulers.PolynomialLR(rule, steps, power=0.9))
    yield "torch PolynomialLR", case(rates, sched="poly", epochs=epochs, poly_power=0.9)
    rates = torch_rates(
        steps, lambda rule: torch_schedulers.LinearLR(rule, start_factor=1.0, end_factor=0.05, total_iters=steps)
    )
    yield "torch LinearLR", case(rates, sched="linear", epochs=epochs, min_lr=0.05 * LR)
    rates = torch_rates(
        steps, lambda rule: torch_schedulers.CosineAnnealingWarmRestarts(rule, steps // 4, T_mult=3, eta_min=0.01)
    )
    yield (
        "torch CosineAnnealingWarmRestarts",
        case(rates, sched="cosine", epochs=epochs, min_lr=0.01, lr_cycle_limit=2, lr_cycle_mul=3.0, lr_cycle_decay=1.0),
    )
    for settings in ({}, {"pct_start": 0.4, "div_factor": 10.0, "final_div_factor": 100.0}):
        rates = torch_rates(
            steps - 1, lambda rule, s=settings: torch_schedulers.OneCycleLR(rule, max_lr=LR, total_steps=steps, **s)
        )
        yield f"torch OneCycleLR {settings}", case(rates, sched="one-cycle", epochs=epochs, **settings)

    # torchvision's references: a linear warm-up, then a cosine, both by epochs.
    def reference(rule):
        warmup = torch_schedulers.LinearLR(rule, start_factor=0.01, total_iters=3)
        main = torch_schedulers.CosineAnnealingLR(rule, T_max=epochs - 3, eta_min=0.02)
        return torch_schedulers.SequentialLR(rule, [warmup, main], milestones=[3])

    rates = [lr for lr in torch_rates(epochs, reference) for _ in range(EPOCH_STEPS)]
    yield (
        "torchvision's references",
        case(
            rates, sched="cosine", epochs=epochs, min_lr=0.02, warmup_epochs=3, warmup_lr=0.01 * LR,
            sched_on_updates=False,
        ),
    )  # fmt: skip


def plateau_cases():
    top1 = [20, 30, 30, 30.001, 29, 28, 40, 39, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41, 41]
    loss = [2.0, 1.5, 1.5, 1.4999, 1.6, 1.7, 1.2, 1.3, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1, 1.1]
    for metric, values, warm in (("top1", top1, 0), ("loss", loss, 0), ("top1", top1, 3)):
        settings = {"decay_rate": 0.3, "patience_epochs": 2, "min_lr": 0.02}
        rule = optimizer()
        scheduler, _ = create_scheduler_v2(
            rule, "plateau", num_epochs=len(values), plateau_mode="min" if metric == "loss" else "max",
            warmup_epochs=warm, warmup_lr=0.01, **settings,
        )  # fmt: skip
        rates = []
        for epoch, value in enumerate(values):
            rates += [rule.param_groups[0]["lr"]] * EPOCH_STEPS
            scheduler.step(epoch + 1, value)
        recipe = {"sched": "plateau", "epochs": len(values), "gamma": 0.3, "patience_epochs": 2, "min_lr": 0.02}
        recipe |= {"eval_metric": metric, "sched_on_updates": False}
        if warm:
            recipe |= {"warmup_epochs": warm, "warmup_lr": 0.01}
        yield f"timm plateau on {metric}, {warm} epochs of warm-up", case(rates, **recipe) | {"metrics": values}


def main():
    warnings.simplefilter("ignore")
    cases = dict([*timm_cases(), *torch_cases(), *plateau_cases()])
    lines = []
    for name, content in cases.items():
        content["lr"] = [float(f"{lr:.12g}") for lr in content["lr"]]
        lines.append(f"{json.dumps(name)}:{json.dumps(content, separators=(',', ':'))}")
    path = HERE / "schedules.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(cases)} schedules, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
