//! Classifies images that come as bytes, on several threads with a classifier each, as a service would:
//! `cargo run --release --example serve -- runs/1-resnet20-shapes10 a.jpg b.jpg c.jpg`

use residual::{Classifier, Pool, engine::Options};
use std::sync::{Arc, Mutex, mpsc};

/// Threads that classify.
const THREADS: usize = 2;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = residual::load(arguments.next().ok_or("WEIGHTS IMAGE…")?)?;
    let (send, requests) = mpsc::channel::<(String, Vec<u8>)>();
    let requests = Arc::new(Mutex::new(requests));
    let mut workers = Vec::new();
    // All share one copy of the weights; each computes on its own thread, so that they do not wait for each other.
    let first = Classifier::with_options(model, 1, &Options::threads(1))?;
    for _ in 0..THREADS {
        let mut classifier = first.on_pool(Arc::new(Pool::new(1)));
        let requests = requests.clone();
        workers.push(std::thread::spawn(move || {
            loop {
                let next = requests.lock().expect("no thread panics").recv();
                let Ok((name, bytes)) = next else { break };
                match classifier.classify_bytes(&bytes) {
                    Ok(classification) => println!("{name}  {}", classification.top(1)[0].label),
                    Err(error) => println!("{name}  {error}"),
                }
            }
        }));
    }
    for path in arguments {
        let bytes = std::fs::read(&path)?;
        send.send((path, bytes))?;
    }
    drop(send);
    for worker in workers {
        worker.join().expect("no thread panics");
    }
    Ok(())
}
