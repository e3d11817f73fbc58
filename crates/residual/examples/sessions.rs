//! How much memory several sessions of one model take, each on a thread of its own, and that all compute the same bits:
//! `cargo run --release --example sessions -- resnet50-int8.safetensors 4` (Linux, where the resident memory can be read)

use residual::Pool;
use residual::engine::{CompiledModel, Engine, EngineError, Options};
use residual::tensor::Stream;
use std::error::Error;
use std::sync::Arc;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(weights), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("WEIGHTS SESSIONS".into());
    };
    let (model, count) = (residual::load(weights)?, count.parse::<usize>()?);
    let size = model.preprocessing.size;
    let mut random = Stream::new(0, &[]);
    let image: Vec<f32> = (0..size[0] * size[1] * model.preprocessing.channels()).map(|_| random.normal()).collect();

    let before = resident()?;
    let compiled = CompiledModel::new(&model, 1, size, &[], &Options::threads(1))?;
    let with_weights = resident()?;
    println!("packed weights: {} bytes; resident memory grew by {}", compiled.weights_bytes(), with_weights - before);
    let mut sessions = Vec::new();
    for index in 0..count {
        let last = resident()?;
        let mut session = compiled.session(&Arc::new(Pool::new(1)))?;
        session.forward(&image)?;
        sessions.push(session);
        println!("session {index}: resident memory grew by {}", resident()? - last);
    }
    let first = sessions[0].output().to_vec();
    let same = std::thread::scope(|scope| {
        let run = |mut session: Engine| {
            session.forward(&image)?;
            Ok::<_, EngineError>(session.output() == first)
        };
        let threads: Vec<_> = sessions.into_iter().map(|session| scope.spawn(move || run(session))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect::<Result<Vec<_>, _>>()
    })?;
    println!("same bits at the same time: {}", same.iter().all(|&same| same));
    Ok(())
}

/// The resident memory of this process in bytes.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("expected VmRSS in /proc/self/status")?;
    let kibibytes: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes << 10)
}
