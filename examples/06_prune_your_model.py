"""What do ten lines add to a training loop of one's own?

Covers: a PyTorch model and a loop of one's own, a guide, a guided pruner, fine-tuning with frozen
zeros, kernels held against PyTorch.
Scenario: 8x8 digits; gradual magnitude pruning asks for 97 % everywhere, two Xeons say where to
stop.  Needs the extra: pip install 'archsim[train]'.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import nn

import archsim
from archsim.pruning.training import Gradual, Guide, Guided, check_outputs, export_layers

torch.manual_seed(0)
torch.set_num_threads(1)
digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16.0
y = torch.tensor(digits.target)
train_x, train_y, test_x, test_y = x[:1500], y[:1500], x[1500:], y[1500:]
model = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 64, 3, padding=1),
    nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 10),
)  # fmt: skip


def run(pruner: Guided | None, epochs: int, rate: float) -> float:
    """The user's own loop; return the accuracy in percent."""
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(train_x)).split(50):
            loss = nn.functional.cross_entropy(model(train_x[batch]), train_y[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
            if pruner is not None:
                pruner.before_step()  # added
            optimizer.step()
            if pruner is not None:
                pruner.after_step()  # added
    model.eval()
    with torch.no_grad():
        return 100.0 * float((model(test_x).argmax(1) == test_y).float().mean())


dense = run(None, 4, 0.05)
network = archsim.from_torch(model, (1, 8, 8))  # added: shapes, by a forward pass
guide = Guide(network, "xeon-e5-2697v4-2s", model="park", batch=36)  # added: where pruning pays
gradual = Gradual(model, sparsity=0.97, end=120)  # added: any method
pruner = Guided(gradual, guide, every=5)  # added: the machine decides
run(pruner, 5, 0.05)
pruner.freeze()  # added: fine-tuning keeps the zeros
tuned = run(pruner, 2, 0.01)
layers = export_layers(model, network, pruner)  # added: BatchNorm folded
checks = check_outputs(model, layers, test_x[:8])  # added: archsim's kernels against PyTorch

print(f"accuracy falls by less than two points: {tuned > dense - 2.0}")
print(f"kernels that compute what PyTorch does: {sum(c.equal for c in checks)} of {len(checks)}")
print(f"predicted speedup of the network: {guide.speedup(pruner.densities()):.2f}\n")
print("| layer | sparsity | decided | at step | why |\n| --- | ---: | --- | ---: | --- |")
for name, density in pruner.densities().items():
    cells = [name, f"{1.0 - density:.1%}"]
    if name in pruner.decided:
        step, verdict = pruner.decided[name]
        cells += [verdict.action, str(step), verdict.reason]
    else:
        cells += ["", "", "pruned to what was asked, for size"]
    print("| " + " | ".join(cells) + " |")
