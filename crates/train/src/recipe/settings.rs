//! The settings: the one place where a setting is defined.
//!
//! Field, key, flag, validation and documentation come from the entries here. The first sentence of a setting's documentation
//! is its line in `--help` and in docs/settings.md; the names of other settings in it are in backticks.

use super::choices::{
    Augment, ClassWeights, ClipMode, EvalMetric, Init, KdLoss, LrScale, MuonAdjustLr, Opt, Sched, Tta,
};
use super::choices::{CropPaddingMode, HflipMode, Remode, Sampler, TrainCropMode, TrainInterpolation};
use super::condition::Condition::{Absent, All, AllAboveZero, AnyAboveZero, Given, Is, IsNot, IsTrue};
use super::setting::{Resume, Setting, settings};
use super::value::Order::{Ascending, StrictlyAscending};
use super::value::{Field, above, below, number, whole};
use residual_data::{PadAndCrop, RandomErasing, RandomResizedCrop};
use residual_preprocess::{CropMode, Interpolation};
use serde::Deserialize;
use std::path::PathBuf;

const CROPS: &[&str] = &["crop", "resized-crop"];

settings! {
    "Model":

    /// Network: a name from `residual models list`, or a TOML file that describes one
    model: String = "resnet20".into() => { value_name: "NAME|FILE" }

    /// Number of classes
    num_classes: Option<usize> = None => { range: whole(1, 1 << 20), unset: "the dataset's classes" }

    /// Input channels; a pretrained first convolution with another number is adapted as timm does
    in_chans: Option<usize> = None => { range: whole(1, 4096), unset: "the network's own" }

    /// Weights to start from: a file, a run folder or a name (torchvision:resnet50.v2). A head for other classes is replaced
    weights: Option<PathBuf> = None => {
        value_name: "FILE|RUN|NAME", unset: "new weights",
        aliases: &["initial_checkpoint", "init_from", "finetune"],
    }

    /// Initialisation of new weights: Kaiming normal as in torchvision's models, or the defaults of torch's modules
    init: Init = Init::He => { applies: Absent("weights") }

    /// Start every residual block as the identity: the scale of its last batch norm starts at zero (Goyal et al. 2017,
    /// section 5.1)
    zero_init: bool = false => {
        aliases: &["zero_init_residual", "zero_init_last"], applies: All(&[Is("init", &["he"]), Absent("weights")]),
    }

    /// Dropout: its rate where the network has it, as Wide ResNets do, else before the head
    drop: Option<f64> = None => { range: below(0.0, 1.0), value_name: "P", unset: "the network's own", aliases: &["dropout"] }

    /// Stochastic depth: the rate of the last block; it rises linearly from 0 in the first
    drop_path: Option<f64> = None => {
        range: below(0.0, 1.0), value_name: "P", unset: "the network's own", aliases: &["drop_connect"],
    }

    "Data":

    /// Dataset: a name from `residual data list`, a folder of images, a .csv or .jsonl list of images, tar shards, parquet files, or a
    /// .safetensors or .npz file
    data: String = "shapes10".into() => { value_name: "DATA", aliases: &["dataset"], resume: Resume::Path }

    /// Folder with the files of a named dataset. Without `data`, the folder of images to train on
    data_dir: Option<PathBuf> = None => {
        value_name: "DIR", unset: "none; cifar10 and cifar100 need it", applies: IsNot("data", &["shapes10"]),
        resume: Resume::Free,
    }

    /// Fraction of the training images held out for validation; 0 trains on all of them
    val_split: Option<f64> = None => {
        range: below(0.0, 1.0), unset: "the dataset's own validation or test images, 0.1 without these",
        hint: "a dataset's own validation images are used without it",
    }

    /// Batch size: the number of images in one forward and backward pass
    batch_size: usize = 128 => { range: whole(1, 1 << 16), short: Some('b'), aliases: &["batch"] }

    /// Shuffle the images in every epoch
    shuffle: bool = true => {}

    /// Choice of the training images of an epoch: each one once, or every class equally often or as often as the square root of
    /// its size, both with replacement
    sampler: Sampler = Sampler::Shuffle => { applies: IsTrue("shuffle") }

    /// Repeated augmentation: this many versions of each image follow one another, and an epoch has that fraction of the images
    /// (timm's `RepeatAugSampler`); 0 and 1 turn it off
    aug_repeats: usize = 0 => { range: whole(0, 64), aliases: &["ra_reps"] }

    /// Drop the last batch of an epoch if it is incomplete
    drop_last: bool = false => {}

    /// Skip images that cannot be read, and list them, instead of ending the run
    skip_bad_images: bool = false => { resume: Resume::Free }

    /// Data-loading threads; 0 loads images on the caller's thread. Changes no result
    workers: usize = 2 => {
        range: whole(0, 256), short: Some('j'), aliases: &["num_workers"], resume: Resume::Free,
    }

    /// Keep decoded images in memory, up to this many megabytes of pixels; 0 keeps none. Changes no result
    cache_mb: u64 = 0 => { range: whole(0, 1 << 24), value_name: "MB", resume: Resume::Free }

    "Augmentation":

    /// Augmentation of training images: a random crop of the padded image, or a random part of it resized (torchvision's
    /// `RandomResizedCrop`); both with a flip
    augment: Augment = Augment::None => {}

    /// Pixels of padding on every side before the random crop
    crop_padding: usize = 4 => {
        range: whole(0, PadAndCrop::MAX_PADDING as i64), value_name: "PIXELS", applies: Is("augment", &["crop"]),
    }

    /// Pixels outside the image in the random crop: black, or the image mirrored at its border
    crop_padding_mode: CropPaddingMode = CropPaddingMode::Zero => { applies: Is("augment", &["crop"]) }

    /// Crop of resized-crop: timm's rrc (a random resized crop), rkrc or rkrr (the whole image, slightly changed in scale and
    /// shape, cropped at the centre or at random)
    train_crop_mode: TrainCropMode = TrainCropMode::ResizedCrop => { applies: Is("augment", &["resized-crop"]) }

    /// Side of training images where it differs from `img_size`, or several, which take equal parts of the epochs one after
    /// another: smaller images first save time. Evaluation stays at `img_size`
    train_img_sizes: Option<Vec<u64>> = None => {
        range: whole(1, 16_384), order: Ascending, value_name: "PIXELS,…", unset: "`img_size` throughout",
        aliases: &["train_crop_size"],
    }

    /// Interpolation of resized, rotated and sheared training images
    train_interpolation: Option<TrainInterpolation> = None => {
        unset: "that of the evaluation", applies: Is("augment", CROPS),
    }

    /// Probability of a horizontal flip
    hflip: f64 = 0.0 => { range: number(0.0, 1.0), value_name: "P", applies: Is("augment", CROPS) }

    /// Flip at random in each epoch, or each image in every other epoch; `hflip` is the fraction flipped in the first one
    hflip_mode: HflipMode = HflipMode::Random => {
        applies: All(&[Is("augment", CROPS), AnyAboveZero(&["hflip"])]),
    }

    /// Probability of a vertical flip
    vflip: f64 = 0.0 => { range: number(0.0, 1.0), value_name: "P", applies: Is("augment", CROPS) }

    /// Greatest angle of a random rotation (torchvision's `RandomRotation`)
    degrees: f64 = 0.0 => { range: number(0.0, 180.0), applies: Is("augment", CROPS) }

    /// Automatic augmentation: timm's texts (rand-m9-mstd0.5-inc1, augmix-m3-w3, original, originalr, v0, v0r, 3a) or
    /// torchvision's ra, ra-m9-n2, ta_wide, autoaugment, cifar10 and svhn; see docs/training.md
    aa: Option<String> = None => {
        value_name: "NAME", unset: "no automatic augmentation", aliases: &["auto_augment"], applies: Is("augment", CROPS),
    }

    /// Strengths of random changes of brightness, contrast, saturation and hue (torchvision's `ColorJitter`): one for the first
    /// three, three, or four. They are applied beside `aa` too
    color_jitter: Option<Vec<f64>> = None => {
        range: number(0.0, 100.0), unset: "no colour jitter", applies: Is("augment", CROPS),
    }

    /// Probability of `color_jitter`
    color_jitter_prob: f64 = 1.0 => { range: number(0.0, 1.0), value_name: "P", applies: Given("color_jitter") }

    /// Probability that an image becomes grey (torchvision's `RandomGrayscale`)
    grayscale_prob: f64 = 0.0 => { range: number(0.0, 1.0), value_name: "P", applies: Is("augment", CROPS) }

    /// Probability of a Gaussian blur (torchvision's, kernel 23, as in timm)
    gaussian_blur_prob: f64 = 0.0 => { range: number(0.0, 1.0), value_name: "P", applies: Is("augment", CROPS) }

    /// Probability of random erasing (timm's `RandomErasing`)
    reprob: f64 = 0.0 => { range: number(0.0, 1.0), value_name: "P", applies: Is("augment", CROPS) }

    /// Content of erased rectangles: noise per pixel, the mean, or one random colour
    remode: Remode = Remode::Pixel => { applies: AnyAboveZero(&["reprob"]) }

    /// Greatest number of erased rectangles; they share the area of one
    recount: usize = 1 => { range: whole(1, RandomErasing::MAX_COUNT as i64), applies: AnyAboveZero(&["reprob"]) }

    /// Fraction of the image's area that a random resized crop keeps
    scale: [f64; 2] = [0.08, 1.0] => {
        range: above(0.0, 1.0), order: Ascending, applies: Is("augment", &["resized-crop"]),
    }

    /// Aspect ratio (width / height) of a random resized crop
    ratio: [f64; 2] = [0.75, 4.0 / 3.0] => {
        range: above(0.0, RandomResizedCrop::MAX_RATIO as f64), order: Ascending, applies: Is("augment", &["resized-crop"]),
    }

    /// Alpha of MixUp (Zhang et al. 2017); 0 turns it off
    mixup: f64 = 0.0 => { range: number(0.0, 1000.0), value_name: "ALPHA", aliases: &["mixup_alpha"] }

    /// Alpha of CutMix (Yun et al. 2019); 0 turns it off
    cutmix: f64 = 0.0 => { range: number(0.0, 1000.0), value_name: "ALPHA", aliases: &["cutmix_alpha"] }

    /// Probability that MixUp or CutMix is applied to a batch
    mixup_prob: f64 = 1.0 => {
        range: number(0.0, 1.0), value_name: "P", applies: AnyAboveZero(&["mixup", "cutmix"]),
    }

    /// Probability of CutMix instead of MixUp where both are on
    mixup_switch_prob: f64 = 0.5 => {
        range: number(0.0, 1.0), value_name: "P", applies: AllAboveZero(&["mixup", "cutmix"]),
    }

    /// Sides of CutMix's rectangle as fractions of the image's, from and up to, in place of its alpha
    cutmix_minmax: Option<[f64; 2]> = None => {
        range: above(0.0, 1.0), order: Ascending, unset: "by the alpha of `cutmix`", applies: AnyAboveZero(&["cutmix"]),
    }

    /// Epoch, from 0, from which on batches are no longer mixed; 0 mixes in all
    mixup_off_epoch: u64 = 0 => { range: whole(0, 1 << 20), applies: AnyAboveZero(&["mixup", "cutmix"]) }

    "Preprocessing":

    /// Side of the network's input in pixels
    img_size: Option<usize> = None => {
        range: whole(1, 16_384), value_name: "PIXELS", unset: "the size of the weights, the dataset or the network",
        aliases: &["imgsz", "image_size", "input_size"],
    }

    /// Side of the input in evaluation and in the saved model, if it is not that of training (FixRes, Touvron et al. 2019)
    test_size: Option<usize> = None => {
        range: whole(1, 16_384), value_name: "PIXELS", unset: "`img_size`", aliases: &["val_crop_size"],
    }

    /// Fraction of the resized image's side that the centre crop of evaluation keeps
    crop_pct: Option<f64> = None => { range: number(0.001, 1.0), unset: "that of the weights or the network" }

    /// How images of another shape than the network's input are brought to its size in evaluation: their centre is cropped,
    /// they are squashed, or the mean colour fills the border (letterbox)
    crop_mode: Option<CropMode> = None => { unset: "that of the weights, else center" }

    /// Turn photographs upright by their EXIF orientation, in training and evaluation. torchvision and timm do not
    exif_orientation: Option<bool> = None => { unset: "as the weights were trained, else off" }

    /// Interpolation of resized images
    interpolation: Option<Interpolation> = None => { unset: "that of the weights, else bilinear" }

    /// Mean of each channel, on a scale of 0 to 1
    mean: Option<Vec<f64>> = None => {
        range: number(0.0, 1.0), value_name: "R,G,B", unset: "that of the weights or the dataset",
    }

    /// Standard deviation of each channel, on the same scale
    std: Option<Vec<f64>> = None => {
        range: above(0.0, 1.0), value_name: "R,G,B", unset: "that of the weights or the dataset",
    }

    "Training":

    /// Number of epochs. With `max_steps` as well, the shorter one applies
    epochs: Option<u64> = None => {
        range: whole(1, 1 << 20), unset: "needed, or `max_steps` or `time_budget`",
        aliases: &["max_epochs", "num_epochs"], replaces: &["max_steps"], resume: Resume::Length,
    }

    /// Number of training steps (updates of the weights)
    max_steps: Option<u64> = None => {
        range: whole(1, 1 << 40), unset: "needed, or `epochs`", aliases: &["max_iters"], replaces: &["epochs"],
        resume: Resume::Length,
    }

    /// Time that the run may take, such as 30m or 1h30m: the first steps are timed, and as many are planned as fit, which the
    /// run records as `max_steps`. With `epochs` or `max_steps` as well, the shorter one applies
    time_budget: Option<String> = None => {
        value_name: "TIME", unset: "no limit", aliases: &["max_time"], resume: Resume::Onward,
    }

    /// Optimiser
    opt: Opt = Opt::Sgd => { aliases: &["optimizer", "optimiser"] }

    /// Learning rate after the warm-up, before it decays
    lr: f64 = 0.1 => {
        range: number(0.0, 1e6), aliases: &["learning_rate", "lr0"], applies: Absent("lr_base"), replaces: &["lr_base"],
    }

    /// Learning rate for `lr_base_size` images per training step; `lr` is this, scaled to `batch_size` times
    /// `grad_accum_steps`
    lr_base: Option<f64> = None => { range: number(0.0, 1e6), unset: "`lr` is used as it is", replaces: &["lr"] }

    /// Images per training step that `lr_base` is meant for
    lr_base_size: u64 = 256 => { range: whole(1, 1 << 40), applies: Given("lr_base") }

    /// How `lr_base` scales with the images per training step
    lr_base_scale: Option<LrScale> = None => {
        unset: "sqrt for adam, adamw, nadam and lamb, else linear, as in timm", applies: Given("lr_base"),
    }

    /// Momentum
    momentum: f64 = 0.9 => {
        range: below(0.0, 1.0), applies: Is("opt", &["sgd", "momentum", "rmsprop", "rmsproptf", "muon"]),
    }

    /// Nesterov momentum
    nesterov: Option<bool> = None => {
        unset: "false for sgd, true for muon, as in torch",
        applies: All(&[Is("opt", &["sgd", "muon"]), AnyAboveZero(&["momentum"])]),
    }

    /// Betas: decay rates of the two running averages of Adam and its kin; Lion's two, and those of the AdamW in muon
    opt_betas: Option<[f64; 2]> = None => {
        range: below(0.0, 1.0), value_name: "BETA1,BETA2", aliases: &["betas"],
        unset: "0.9 and 0.999; 0.9 and 0.99 for lion; 0.9 and 0.95 for muon, as in timm",
        applies: Is("opt", &["adam", "adamw", "nadam", "lamb", "lion", "muon"]),
    }

    /// Term that is added to the denominator of an adaptive step
    opt_eps: Option<f64> = None => {
        range: above(0.0, 1.0), aliases: &["eps"],
        unset: "1e-8; 1e-6 for lamb, 1e-7 for muon, 1e-10 for rmsproptf, as in timm",
        applies: Is("opt", &["adam", "adamw", "nadam", "lamb", "rmsprop", "rmsproptf", "muon"]),
    }

    /// Decay rate of RMSprop's average of squares, as timm has it; torch's default is 0.99
    opt_alpha: f64 = 0.9 => { range: below(0.0, 1.0), applies: Is("opt", &["rmsprop", "rmsproptf"]) }

    /// Limit LAMB's ratio of the norms of weights and step to 1 (timm's lambc)
    trust_clip: bool = false => { applies: Is("opt", &["lamb"]) }

    /// Let LAMB scale the steps of parameters without weight decay too
    always_adapt: bool = false => { applies: Is("opt", &["lamb"]) }

    /// How Muon scales the learning rate of a weight with its shape, as torch's `adjust_lr_fn`; match_rms_adamw suits learning
    /// rates of AdamW
    muon_adjust_lr: MuonAdjustLr = MuonAdjustLr::MatchRmsAdamW => {
        aliases: &["adjust_lr_fn"], applies: Is("opt", &["muon"]),
    }

    /// Learning rate, relative to `lr`, of the parameters that Muon leaves to AdamW: the head, biases, norms, depthwise
    /// convolutions
    fallback_lr_scale: f64 = 1.0 => { range: number(0.0, 1e6), applies: Is("opt", &["muon"]) }

    /// Weight decay: added to the gradient by sgd, momentum, adam, nadam and rmsprop, to the step's direction by lamb, and
    /// applied to the weights (decoupled) by adamw, lion and muon
    weight_decay: f64 = 0.0 => { range: number(0.0, 1000.0), aliases: &["wd"] }

    /// Apply weight decay to biases and the parameters of norms too
    decay_norm_bias: Option<bool> = None => {
        unset: "true for sgd and momentum, as in torch; false for the others, as in timm", applies: AnyAboveZero(&["weight_decay"]),
    }

    /// Clip gradients at this limit, whose meaning `clip_mode` says
    clip_grad: Option<f64> = None => {
        range: above(0.0, f64::INFINITY), unset: "no clipping",
        aliases: &["clip_grad_norm", "max_grad_norm", "gradient_clip_val"],
    }

    /// What `clip_grad` limits: the norm of all gradients, every value, or (agc) the norm of each unit relative to that of its
    /// weights, the head excluded
    clip_mode: ClipMode = ClipMode::Norm => {
        aliases: &["gradient_clip_algorithm"], applies: Given("clip_grad"),
    }

    /// Gradient accumulation: number of batches per training step
    grad_accum_steps: usize = 1 => {
        range: whole(1, 1 << 16), aliases: &["gradient_accumulation_steps", "accum_iter", "accumulate_grad_batches"],
    }

    /// Label smoothing: fraction of the target distributed over all classes
    smoothing: f64 = 0.0 => { range: below(0.0, 1.0), aliases: &["label_smoothing"] }

    /// Train every output by itself with binary cross-entropy on its sigmoid, as timm; images with several labels need it
    bce_loss: bool = false => {}

    /// Sum the binary cross-entropies of an image's classes instead of taking their mean
    bce_sum: bool = false => { applies: IsTrue("bce_loss") }

    /// Make targets above this value 1 and the others 0, after smoothing and mixing
    bce_target_thresh: Option<f64> = None => {
        range: below(0.0, 1.0), unset: "targets stay as they are", applies: IsTrue("bce_loss"),
    }

    /// Exponent of the focal loss, which weighs down what the network is sure of (Lin et al. 2017): (1 − p)^γ on the softmax, or
    /// with `bce_loss` torchvision's on the sigmoid; 0 turns it off
    focal_gamma: f64 = 0.0 => { range: number(0.0, 100.0) }

    /// Weight of positive targets in the focal loss on the sigmoid; that of negative ones is the rest up to 1
    focal_alpha: Option<f64> = None => {
        range: number(0.0, 1.0), unset: "both have weight 1",
        applies: All(&[IsTrue("bce_loss"), AnyAboveZero(&["focal_gamma"])]),
    }

    /// Weights of classes in the loss, from the numbers of their training images: balanced is in inverse proportion to them,
    /// effective to the effective number of images
    class_weights: ClassWeights = ClassWeights::None => { replaces: &["class_weight_values"] }

    /// Beta of the effective number of images, (1 − betaⁿ) / (1 − beta)
    class_weight_beta: f64 = 0.999 => { range: below(0.0, 1.0), applies: Is("class_weights", &["effective"]) }

    /// Weight of each class in the loss, in the order of the classes
    class_weight_values: Option<Vec<f64>> = None => {
        range: number(0.0, 1e6), unset: "all 1, or those of `class_weights`", applies: Is("class_weights", &["none"]),
        replaces: &["class_weights"],
    }

    /// Recompute activations in the backward pass: less memory, more time, the same result
    grad_checkpointing: bool = false => {
        aliases: &["gradient_checkpointing", "activation_checkpointing"], resume: Resume::Free,
    }

    /// Mixed precision: activations and their gradients are bf16, about half the memory, and faster on processors that multiply bf16
    /// (AVX512_BF16); sums, statistics, weights, their gradients and their updates stay f32. Evaluations are in f32
    amp: bool = false => { aliases: &["bf16", "native_amp", "apex_amp"] }

    /// Keep an exponential moving average of the weights; it is what evaluations judge and what the run's weights files
    /// hold
    model_ema: bool = false => { aliases: &["ema"] }

    /// Decay of the moving average per update
    model_ema_decay: f64 = 0.9998 => {
        range: below(0.0, 1.0), aliases: &["ema_decay"], applies: IsTrue("model_ema"),
    }

    /// Let the decay rise to `model_ema_decay` during the run, as timm does: 1 − (1 + n)^(−2/3) after n updates
    model_ema_warmup: bool = false => { applies: IsTrue("model_ema") }

    /// Training steps per update of the moving average
    model_ema_steps: u64 = 1 => { range: whole(1, u32::MAX as i64), applies: IsTrue("model_ema") }

    "Schedule":

    /// Learning-rate schedule after the warm-up
    sched: Sched = Sched::Constant => {
        aliases: &["scheduler", "schedule", "lr_scheduler"],
    }

    /// Change the learning rate with every training step; if false, with every epoch, as timm and torchvision do by default
    sched_on_updates: bool = true => {}

    /// Epochs at which the learning rate is multiplied by `gamma`
    milestone_epochs: Option<Vec<u64>> = None => {
        range: whole(1, 1 << 40), order: StrictlyAscending, unset: "needed by multistep, or `milestone_steps`",
        aliases: &["decay_milestones", "milestones"],
        applies: Is("sched", &["multistep"]), replaces: &["milestone_steps"],
    }

    /// Steps at which the learning rate is multiplied by `gamma`
    milestone_steps: Option<Vec<u64>> = None => {
        range: whole(1, 1 << 40), order: StrictlyAscending, unset: "needed by multistep, or `milestone_epochs`",
        applies: Is("sched", &["multistep"]), replaces: &["milestone_epochs"],
    }

    /// Epochs, fractions allowed, after each of which the learning rate is multiplied by `gamma`
    decay_epochs: Option<f64> = None => {
        range: above(0.0, 1e6), unset: "needed by step, or `decay_steps`", aliases: &["lr_step_size", "step_size"],
        applies: Is("sched", &["step"]), replaces: &["decay_steps"],
    }

    /// Steps after each of which the learning rate is multiplied by `gamma`
    decay_steps: Option<u64> = None => {
        range: whole(1, 1 << 40), unset: "needed by step, or `decay_epochs`",
        applies: Is("sched", &["step"]), replaces: &["decay_epochs"],
    }

    /// Factor that the learning rate is multiplied by at every milestone, decay or plateau
    gamma: Option<f64> = None => {
        range: above(0.0, 1.0), unset: "0.1", aliases: &["decay_rate", "lr_gamma"],
        applies: Is("sched", &["multistep", "step", "plateau"]),
    }

    /// Evaluations without a better `eval_metric` that a plateau schedule waits for; the next one reduces the learning rate
    patience_epochs: u64 = 10 => { range: whole(0, u32::MAX as i64), applies: Is("sched", &["plateau"]) }

    /// Learning rate at the end of the schedule, and the least of a plateau schedule
    min_lr: Option<f64> = None => {
        range: number(0.0, 1e6), unset: "0", aliases: &["eta_min", "lr_min"],
        applies: Is("sched", &["cosine", "linear", "poly", "plateau"]),
    }

    /// Exponent of the polynomial
    poly_power: f64 = 1.0 => { range: above(0.0, 100.0), applies: Is("sched", &["poly"]) }

    /// Cycles of warm restarts that fill the run (Loshchilov and Hutter 2017). In timm `epochs` is the length of the first
    /// one; here it is that of all
    lr_cycle_limit: u64 = 1 => { range: whole(1, 100), applies: Is("sched", &["cosine", "poly"]) }

    /// Length of a cycle relative to the one before
    lr_cycle_mul: f64 = 1.0 => { range: above(0.0, 10.0), applies: Is("sched", &["cosine", "poly"]) }

    /// Peak of a cycle relative to the one before
    lr_cycle_decay: f64 = 0.5 => { range: above(0.0, 1.0), applies: Is("sched", &["cosine", "poly"]) }

    /// Exponent of the position in a cycle (k-decay, arXiv:2004.05909)
    lr_k_decay: f64 = 1.0 => { range: above(0.0, 100.0), applies: Is("sched", &["cosine", "poly"]) }

    /// Share of a one-cycle schedule in which the learning rate rises
    pct_start: f64 = 0.3 => { range: number(0.0, 1.0), applies: Is("sched", &["one-cycle"]) }

    /// How many times lower than `lr` a one-cycle schedule begins
    div_factor: f64 = 25.0 => { range: above(0.0, 1e12), applies: Is("sched", &["one-cycle"]) }

    /// How many times lower than it begins a one-cycle schedule ends
    final_div_factor: f64 = 1e4 => { range: above(0.0, 1e12), applies: Is("sched", &["one-cycle"]) }

    /// Epochs, fractions allowed, in which the learning rate rises linearly
    warmup_epochs: Option<f64> = None => {
        range: number(0.0, 1e6), unset: "no warm-up", aliases: &["lr_warmup_epochs"], applies: IsNot("sched", &["one-cycle"]),
        replaces: &["warmup_steps"],
    }

    /// Steps in which the learning rate rises linearly
    warmup_steps: Option<u64> = None => {
        range: whole(0, 1 << 40), unset: "no warm-up", applies: IsNot("sched", &["one-cycle"]), replaces: &["warmup_epochs"],
    }

    /// Learning rate of the first step of the warm-up, as in timm, whose default is 1e-5
    warmup_lr: Option<f64> = None => {
        range: number(0.0, 1e6), unset: "the first of equal steps from zero",
        applies: AnyAboveZero(&["warmup_epochs", "warmup_steps"]),
    }

    /// Begin the schedule after the warm-up; if false, the warm-up takes the place of its beginning, as in timm by default.
    /// `epochs` includes the warm-up
    warmup_prefix: Option<bool> = None => {
        unset: "false for multistep and step, whose epochs count from the start; else true",
        applies: AnyAboveZero(&["warmup_epochs", "warmup_steps"]),
    }

    /// Epochs, fractions allowed, at the end of the run with `min_lr`; `epochs` includes them, unlike in timm
    cooldown_epochs: f64 = 0.0 => { range: number(0.0, 1e6), applies: Is("sched", &["cosine", "linear", "poly"]) }

    "Transfer":

    /// Parts of the network that are not trained: backbone (all but the head), N (the first N of stem and stages),
    /// layer1..layer3 or module paths; several are separated by commas
    freeze: Option<String> = None => { value_name: "SPEC", unset: "everything is trained" }

    /// Frozen parts that are trained from an epoch on, such as 3:layer4; may be repeated
    unfreeze_at: Option<Vec<String>> = None => {
        value_name: "EPOCH:SPEC", unset: "frozen parts stay frozen", aliases: &["unfreeze"], applies: Given("freeze"),
    }

    /// Keep the running statistics of batch norms in frozen modules (without `freeze`, of all) and normalise with them
    freeze_bn: bool = false => {}

    /// Keep weights of convolutions and linear layers zero that are zero in the initial `weights`, as those of a pruned network
    keep_zeros: bool = false => { applies: Given("weights") }

    /// Multiplier of the head's learning rate
    head_lr_mult: f64 = 1.0 => { range: above(0.0, 1e6) }

    /// Layer-wise decay: each block's learning rate is this factor times that of the next, deeper block, as in timm
    layer_decay: f64 = 1.0 => { range: above(0.0, 1.0) }

    /// Compute the features of a frozen backbone once, keep them in memory and train the head on them
    cache_features: bool = false => {}

    "Distillation":

    /// Weights of a teacher, or of several whose softened probabilities are averaged: files, run folders or names as in
    /// `weights`, of any network, quantised ones too; separated by commas or repeated. Its classes are matched by name
    teacher: Option<Vec<String>> = None => {
        value_name: "FILE|RUN|NAME", unset: "no distillation", resume: Resume::Onward,
    }

    /// What the student learns from the teacher: kd, its softened probabilities (Hinton et al. 2015); dkd, the same decoupled
    /// into the image's class and the others (Zhao et al. 2022); fitnet, its feature maps (Romero et al. 2014); or at, where
    /// these are large (attention transfer, Zagoruyko and Komodakis 2016)
    kd_loss: KdLoss = KdLoss::Kd => { aliases: &["loss", "distill_loss"], applies: Given("teacher") }

    /// Temperature that the logits of student and teacher are divided by
    kd_temperature: f64 = 4.0 => {
        range: above(0.0, 1e6), aliases: &["distill_temperature"], applies: Given("teacher"),
    }

    /// Weight of the teacher's probabilities: with dkd, that of the image's class; else that of the whole loss of kd, where that
    /// of the labels is the rest up to 1. With fitnet and at, kd is part of the loss if it is above 0
    kd_alpha: Option<f64> = None => {
        range: number(0.0, 1e6), unset: "0.7 with kd, 1 with dkd, 0 with fitnet and at", aliases: &["alpha", "distill_alpha"],
        applies: Given("teacher"),
    }

    /// Weight of the other classes in dkd, of the distances of feature maps in fitnet, of attention maps in at
    kd_beta: Option<f64> = None => {
        range: number(0.0, 1e9), unset: "8 with dkd, 100 with fitnet, 1000 with at", aliases: &["beta"],
        applies: All(&[Given("teacher"), IsNot("kd_loss", &["kd"])]),
    }

    /// Layers of the student and of the teacher that fitnet or at compare, by their module paths: layer1:layer2, or one path for
    /// both; separated by commas or repeated. Feature maps of different sizes are averaged to the smaller one
    hint_layers: Option<Vec<String>> = None => {
        value_name: "STUDENT:TEACHER", unset: "the ends of the stages of blocks, of which both have as many",
        applies: All(&[Given("teacher"), Is("kd_loss", &["fitnet", "at"])]),
    }

    /// Multiply the loss of kd by the square of `kd_temperature`, so that its gradient is as large at every temperature
    kd_scale_t2: bool = true => { applies: All(&[Given("teacher"), IsNot("kd_loss", &["dkd"])]) }

    /// Epochs in which dkd rises linearly to its full weight
    kd_warmup_epochs: u64 = 20 => {
        range: whole(0, 1 << 20), applies: All(&[Given("teacher"), Is("kd_loss", &["dkd"])]),
    }

    /// Keep the teacher's outputs in memory where images are the same in every epoch, without augmentation and mixing, up to
    /// 1 GiB. Changes no result
    kd_cache: bool = true => { applies: Given("teacher"), resume: Resume::Free }

    "Run":

    /// Random seed of initial weights, shuffling and augmentation
    seed: u64 = 0 => { range: whole(0, i64::MAX) }

    /// Name of the run folder after its number
    experiment: Option<String> = None => {
        value_name: "NAME", unset: "network and dataset", resume: Resume::Free,
    }

    /// Number of epochs between evaluations on the held-out images; the last epoch is always evaluated
    val_interval: u64 = 1 => { range: whole(1, u32::MAX as i64), aliases: &["check_val_every_n_epoch"] }

    /// Batches of training images from which the statistics of batch norms are computed again for every evaluation, in the
    /// model that is evaluated and saved; 0 takes the running averages of training, which lag behind while the learning rate
    /// is high. Changes no training step
    bn_recalibration: usize = 0 => { range: whole(0, 1 << 16), value_name: "BATCHES", aliases: &["precise_bn"] }

    /// Test-time augmentation of the run's evaluations: the views of an image whose logits are averaged
    tta: Tta = Tta::None => {}

    /// The metric that chooses the best epoch
    eval_metric: EvalMetric = EvalMetric::Top1 => { aliases: &["monitor"] }

    /// Early stopping: end the run after this many epochs without a better `eval_metric`
    patience: Option<u64> = None => {
        range: whole(1, u32::MAX as i64), unset: "no early stopping", aliases: &["early_stopping_patience"],
        resume: Resume::Onward,
    }

    /// Write TensorBoard event files to the run folder
    tensorboard: bool = false => {}

    /// Keep the weights of every Nth epoch, as weights/epoch-N.safetensors
    keep_every: Option<u64> = None => {
        range: whole(1, u32::MAX as i64), unset: "none are kept", aliases: &["save_period"], resume: Resume::Free,
    }

    /// Keep the weights of this many of the best epochs, as weights/epoch-N.safetensors; without held-out images of the last
    /// ones
    checkpoint_hist: Option<usize> = None => {
        range: whole(1, 1 << 16), unset: "only the best", aliases: &["save_top_k"],
    }

    /// Number of steps between log entries. Changes no result
    log_every: u64 = 20 => {
        range: whole(1, u32::MAX as i64), aliases: &["log_interval", "print_freq"], resume: Resume::Free,
    }

    /// Number of steps between records of the gradients: mean and maximum magnitude and the update ratio of each layer, in
    /// `gradients.jsonl`. The first step is recorded too. Changes no result
    log_gradients: Option<u64> = None => {
        range: whole(1, u32::MAX as i64), unset: "not recorded", resume: Resume::Free,
    }

    /// Number of steps between checkpoints, in addition to those after every epoch. Changes no result
    checkpoint_every: Option<u64> = None => {
        range: whole(1, u32::MAX as i64), unset: "only after every epoch", resume: Resume::Free,
    }
}
