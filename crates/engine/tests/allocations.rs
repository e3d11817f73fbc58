//! Nothing is allocated per step: a warm engine's passes and the optimiser take no memory from the system, on any thread.
//!
//! Inference that packs on use is the documented exception ([`InferenceOptions::pack_on_use`](residual_engine::InferenceOptions)): it makes a list of packing tasks for
//! each convolution.

use residual_engine::{CompiledModel, Elements, Engine, GradientOptions, Mode, Options};
use residual_kernels::loss::{Targets, cross_entropy};
use residual_kernels::optim::{Sgd, sgd};
use residual_model::{Initialisation, Model, initialise};
use residual_preprocess::Preprocessing;
use residual_tensor::Stream;
use serde_json::Value;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

/// The system's allocator, which counts.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is the system allocator's own, with the arguments of the caller, who keeps its contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as for the whole implementation.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for the whole implementation.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for the whole implementation.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `work` makes, on all threads, and of how many bytes.
fn allocated(work: impl FnOnce()) -> [u64; 2] {
    let now = || [&ALLOCATIONS, &BYTES].map(|counter| counter.load(Ordering::SeqCst));
    let before = now();
    work();
    let after = now();
    [after[0] - before[0], after[1] - before[1]]
}

fn allocations(work: impl FnOnce()) -> u64 {
    allocated(work)[0]
}

const CLASSES: usize = 5;
const BATCH: usize = 3;

/// A small network of every family: those whose gradients are compared with PyTorch's.
fn networks() -> Vec<(String, Model)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let descriptions = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let model = |path: std::path::PathBuf| {
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let text = format!("{}image_size = 32\nnum_classes = {CLASSES}\n", golden["description"].as_str()?);
        let graph = residual_zoo::from_toml(&text).unwrap().graph().unwrap();
        let tensors = initialise(&graph, Initialisation::usual(&graph), 1);
        let preprocessing = Preprocessing::unscaled([32, 32], &[0.0; 3], &[1.0; 3]);
        Some((text, Model::new(graph, tensors, preprocessing, Vec::new()).unwrap()))
    };
    descriptions.filter_map(model).collect()
}

/// One test, as the counters are the process's.
#[test]
fn nothing_is_allocated_per_step_and_sessions_share_their_weights() {
    let networks = networks();
    for (name, model) in &networks {
        let options = Options::threads(1);
        let compiled = CompiledModel::new(model, 1, [32, 32], &[], &options).unwrap();
        let mut first = compiled.session(&options.pool).unwrap();
        let weights = compiled.weights_bytes();
        let [_, bytes] = allocated(|| drop(compiled.session(&options.pool).unwrap()));
        let expected = (first.bytes() - weights) as u64;
        // Besides its memory a session has lists, a hundred bytes for each node.
        let lists = 1000 * model.graph.nodes.len() as u64;
        assert!((expected..expected + lists).contains(&bytes), "{bytes} bytes, expected {expected}: {name}");
        // Weights are replaced where they are.
        let [_, bytes] = allocated(|| first.load_model(model).unwrap());
        drop(compiled);
        let [_, alone] = allocated(|| first.load_model(model).unwrap());
        // Larger buffers are mapped from the system, which is not counted.
        if weights < 4 << 20 {
            assert!(alone + weights as u64 <= bytes, "{alone} and {bytes} bytes, weights {weights}: {name}");
        }
    }
    assert!(networks.len() > 10);
    for (name, model) in &networks {
        for threads in [1, 3] {
            let options = Options::threads(threads);
            // A thread allocates while it starts: all of them have a task before anything is counted.
            let started = Barrier::new(threads);
            options.pool.run(threads, |_, _| _ = started.wait());
            let engine = |mode, checkpointing, elements| {
                let options = Options {
                    gradients: GradientOptions { checkpointing, elements, ..GradientOptions::default() },
                    ..options.clone()
                };
                Engine::new(model, mode, BATCH, [32, 32], &[], &options).unwrap()
            };
            let mut stream = Stream::new(1, &[]);
            let images: Vec<f32> = (0..BATCH * 32 * 32 * 3).map(|_| stream.normal()).collect();

            let mut infer = engine(Mode::Infer, false, Elements::F32);
            infer.forward(&images).unwrap();
            let count = allocations(|| infer.forward(&images).unwrap());
            assert_eq!(count, 0, "inference on {threads} threads: {name}");

            for (mode, checkpointing, elements) in [
                (Mode::Train, false, Elements::F32),
                (Mode::Train, true, Elements::F32),
                (Mode::Eval, false, Elements::F32),
                (Mode::Train, false, Elements::Bf16),
                (Mode::Train, true, Elements::Bf16),
            ] {
                let mut engine = engine(mode, checkpointing, elements);
                let mut momentum = vec![0.0; engine.parameter_len()];
                let mut gradient = vec![0.0; BATCH * CLASSES];
                let rule = Sgd { lr: 1e-4, momentum: 0.9, weight_decay: 1e-4, nesterov: true };
                let mut step = |seed: u64| {
                    engine.set_seed(seed);
                    engine.forward(&images).unwrap();
                    cross_entropy(engine.output(), Targets::Hard(&[1, 3, 0]), CLASSES, 0.1, Some(&mut gradient));
                    engine.backward_output(&gradient).unwrap();
                    let flat = engine.flat_mut();
                    sgd(options.isa, &options.pool, flat.values, flat.gradients, &mut momentum, &rule);
                };
                step(0);
                let count = allocations(|| (1..3).for_each(&mut step));
                assert_eq!(
                    count, 0,
                    "{mode:?}, {elements:?}, checkpointing {checkpointing}, on {threads} threads: {name}"
                );
            }
        }
    }
}
