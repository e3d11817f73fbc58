//! The arguments of `residual distill`: those of `residual train`.

use super::Train;
use clap::Args;

#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    residual distill --teacher runs/1-resnet56-cifar10 --model resnet20 --data cifar10 --data-dir cifar-10-batches-bin\n  \
    residual distill --teacher torchvision:resnet50.v2 --data photos --weights torchvision:resnet18.v1\n  \
    residual distill --teacher a.safetensors,b.safetensors --loss dkd --kd-beta 2 --data photos --model resnet18\n  \
    residual distill --resume runs/2-resnet20-cifar10\n\n\
    This is residual train with a teacher, whose flags are under Distillation; residual train --teacher is the same.")]
pub(crate) struct Distill {
    #[command(flatten)]
    pub(crate) train: Train,
}
