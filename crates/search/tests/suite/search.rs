//! Searches that train: interrupted ones are resumed, several processes share one, and the best network is an ordinary checkpoint.

use residual_engine::Options;
use residual_search::{
    Candidate, Cost, Entry, Event, Journal, Length, Limits, Method, NetworkSpace, Networks, Outcome, Recipes, Record,
    Search, SearchError, SettingSpace, Settings, Space, Supernets, Trial, Trials,
};
use residual_tensor::{NamedTensors, Stream, Tensor};
use residual_train::{Event as TrainEvent, Layer, Recipe};
use residual_weights::{load, save_tensors};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

const SPACE: &str = "
family = 'cifar_resnet'
depths = { each = [[1], [1], [1, 2]] }
widths = { each = [[4, 8], [4, 8], [4, 8]] }
image_size = 12
";

/// 60 images of 12×12 of three classes.
fn data(folder: &Path) -> String {
    let (n, side) = (60, 12);
    let mut random = Stream::new(3, &[]);
    let labels: Vec<i64> = (0..n).map(|index| index % 3).collect();
    let pixels =
        labels.iter().flat_map(|label| (0..3 * side * side).map(move |at| (at / (side * side)) as i64 == *label));
    let images = pixels.map(|bright| random.normal() + if bright { 0.5 } else { 0.0 }).collect();
    let tensors = NamedTensors::from_iter([
        ("images".to_owned(), Tensor::f32(&[n as usize, 3, side, side], images)),
        ("labels".to_owned(), Tensor::i64(&[n as usize], labels)),
    ]);
    let path = folder.join("tiny.safetensors");
    save_tensors(&path, &tensors, &Default::default()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn recipe(data: &str, epochs: u64) -> Recipe {
    Recipe {
        data: data.into(),
        batch_size: 8,
        epochs: Some(epochs),
        lr: 0.05,
        seed: 5,
        val_split: Some(0.3),
        checkpoint_every: Some(3),
        ..Recipe::default()
    }
}

fn with_search<T>(method: Method, recipe: Recipe, trials: usize, run: impl FnOnce(&Search<Networks<'_>>) -> T) -> T {
    let space = NetworkSpace::parse("s", SPACE).unwrap();
    let latency = |_: &residual_graph::Graph, _| panic!("no latency limit is set");
    let length = Length { trials: Some(trials), budget: None };
    run(&Search::new(
        space,
        Limits { parameters: Some(4000), ..Limits::default() },
        &latency,
        method,
        recipe.into(),
        length,
    )
    .unwrap())
}

fn run<T: Trials>(
    search: &Search<T>,
    folder: &Path,
    on_event: &mut dyn FnMut(&Event<'_, T::Tried>, &AtomicBool),
) -> Result<Outcome<T::Tried>, SearchError> {
    let stop = AtomicBool::new(false);
    search.run(folder, &Options::threads(1), &stop, &mut |event| on_event(event, &stop))
}

fn read(folder: &Path) -> Record {
    Journal::new(&folder.join("journal.jsonl")).read().unwrap()
}

fn results(folder: &Path) -> Vec<Trial> {
    read(folder).history.trials().to_vec()
}

#[test]
fn an_interrupted_search_ends_as_one_that_was_not() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    with_search(Method::Evolution, recipe(&data, 3), 7, |search| {
        let [whole, parts] = ["whole", "parts"].map(|name| place.path().join(name));
        let outcome = run(search, &whole, &mut |_, _| ()).unwrap();
        assert!(!outcome.interrupted && outcome.trials == 7 && outcome.failed == 0);

        // Stops at every seventh step, and once more at the end of every trial.
        let (mut steps, mut rounds, mut begun) = (0, 0, Vec::new());
        loop {
            let result = run(search, &parts, &mut |event, stop| match event {
                Event::Trial { trial, .. } => begun.push(*trial),
                Event::Training(TrainEvent::Step(_)) => {
                    steps += 1;
                    stop.fetch_or(steps % 7 == 0, Ordering::Relaxed);
                }
                Event::Scored { trial, .. } => {
                    begun.retain(|begun| begun != trial);
                    stop.store(true, Ordering::Relaxed);
                }
                _ => {}
            });
            rounds += 1;
            match result {
                Ok(outcome) if !outcome.interrupted => break,
                Ok(_) | Err(SearchError::NoResult { failure: None }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(rounds < 200);
        }
        // A trial that had a result never began again.
        assert!(begun.is_empty() && rounds > 7, "{begun:?} {rounds}");
        assert_eq!(results(&whole), results(&parts));
        // A finished search is not repeated.
        run(search, &whole, &mut |event, _| panic!("{event:?}")).unwrap();
    });
}

#[test]
fn the_best_network_is_a_checkpoint_and_a_description() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    with_search(Method::Tpe, recipe(&data, 2), 4, |search| {
        let folder = place.path().join("search");
        let Outcome { best, front, description, weights, .. } = run(search, &folder, &mut |_, _| ()).unwrap();
        let scores: Vec<f64> = results(&folder).iter().map(|trial| trial.scores[0].1).collect();
        assert!(scores.iter().all(|&score| score <= best.top1) && scores[best.trial] == best.top1);
        assert!(best.tried.parameters <= 4000 && front.iter().any(|found| found.trial == best.trial));
        assert!(front.windows(2).all(|pair| pair[0].tried.macs < pair[1].tried.macs && pair[0].top1 < pair[1].top1));
        let config = residual_zoo::from_toml(&std::fs::read_to_string(description).unwrap()).unwrap();
        let graph = config.graph().unwrap();
        assert_eq!((graph.parameter_count(), config.num_classes), (best.tried.parameters, 3));
        assert_eq!(load(&weights).unwrap().model.graph, graph);
        // Trials are ordinary runs, and judged nothing but held-out images.
        let runs = residual_train::Record::list(&folder.join("trials")).unwrap();
        assert_eq!(runs.len(), 4);
        assert!(runs.iter().all(|run| run.rows.len() == 2 && run.recipe.val_split == Some(0.3)));
    });
}

#[test]
fn halved_trials_are_paused_and_the_better_ones_go_on() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    with_search(Method::Asha, recipe(&data, 9), 7, |search| {
        let folder = place.path().join("search");
        let outcome = run(search, &folder, &mut |_, _| ()).unwrap();
        let results = results(&folder);
        let epochs: Vec<Vec<u64>> =
            results.iter().map(|trial| trial.scores.iter().map(|&(epochs, _)| epochs).collect()).collect();
        assert!(epochs.iter().all(|epochs| [1, 3, 9].starts_with(epochs)), "{epochs:?}");
        // By hand: a third of seven trials goes on.
        assert_eq!(epochs.iter().filter(|epochs| epochs.len() > 1).count(), 2);
        // The rows of a paused and resumed run are those of its epochs, one after another.
        for run in residual_train::Record::list(&folder.join("trials")).unwrap() {
            let rows: Vec<u64> = run.rows.iter().map(|row| row.epoch).collect();
            assert_eq!(rows, (1..=rows.len() as u64).collect::<Vec<_>>());
        }
        assert_eq!(outcome.best.epochs, epochs.iter().flatten().copied().max().unwrap());
    });
}

#[test]
fn two_searches_in_one_folder_share_the_trials() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let folder = place.path().join("search");
    let scored = Mutex::new(Vec::new());
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                with_search(Method::Random, recipe(&data, 2), 8, |search| {
                    let outcome = run(search, &folder, &mut |event, _| {
                        if let Event::Scored { trial, .. } = event {
                            scored.lock().unwrap().push(*trial);
                        }
                    });
                    outcomes.lock().unwrap().push(outcome.unwrap());
                });
            });
        }
    });
    let outcomes = outcomes.into_inner().unwrap();
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[0].scored.len(), 8);
    let mut scored = scored.into_inner().unwrap();
    scored.sort_unstable();
    assert_eq!(scored, (0..8).collect::<Vec<_>>());
    assert!(results(&folder).iter().all(|trial| trial.scores.len() == 1));
}

#[test]
fn a_search_without_work_waits_for_the_trials_of_others_and_ends_as_they_do() {
    let place = tempfile::tempdir().unwrap();
    let (data, folder) = (data(place.path()), place.path().join("search"));
    let ((began, is_begun), (waits, is_waited_for)) = (channel(), channel());
    let (data, folder) = (&*data, &*folder);
    std::thread::scope(|scope| {
        let of_other = scope.spawn(move || {
            with_search(Method::Random, recipe(data, 1), 1, |search| {
                let mut is_first = true;
                run(search, folder, &mut |event, _| {
                    if matches!(event, Event::Training(TrainEvent::Step(_))) && std::mem::take(&mut is_first) {
                        began.send(()).unwrap();
                        // If the other search ends in place of waiting, this one goes on.
                        let _ended = is_waited_for.recv();
                    }
                })
                .unwrap()
            })
        });
        is_begun.recv().unwrap();
        let outcome = with_search(Method::Random, recipe(data, 1), 1, |search| {
            let outcome = run(search, folder, &mut |event, _| match event {
                Event::WaitingForTrials { trials: 1 } => waits.send(()).unwrap(),
                event => panic!("{event:?}"),
            });
            drop(waits);
            outcome
        });
        assert_eq!(outcome.unwrap(), of_other.join().unwrap());
    });
}

#[test]
fn the_best_weights_are_those_that_were_judged() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    // With averaged weights, at a rate at which the last epoch is not the best.
    let averaged = Recipe { model_ema: true, model_ema_decay: 0.5, lr: 0.3, ..recipe(&data, 5) };
    with_search(Method::Random, averaged, 3, |search| {
        let folder = place.path().join("averaged");
        let outcome = run(search, &folder, &mut |_, _| ()).unwrap();
        let weights = run_of(&folder.join("trials"), &format!("-trial-{}", outcome.best.trial)).join("weights");
        let [last, best] = ["last", "best"].map(|name| bits(&weights.join(format!("{name}.safetensors"))));
        assert!(bits(&outcome.weights) == last && last != best);
        assert_eq!(judged(&outcome.weights, &data), outcome.best.top1);
    });
    // Of a trial that was interrupted in the middle of more epochs, those after the epochs that it has a result of.
    with_search(Method::Asha, recipe(&data, 9), 3, |search| {
        let folder = place.path().join("halved");
        let weights = |trial: usize| run_of(&folder.join("trials"), &format!("-trial-{trial}")).join("weights");
        let (mut judged, mut promoted) = (Vec::new(), None);
        let outcome = run(search, &folder, &mut |event, stop| match event {
            Event::Scored { trial, epochs: 1, .. } => judged.push(bits(&weights(*trial).join("last.safetensors"))),
            Event::Trial { trial, epochs: 3, .. } => promoted = Some(*trial),
            Event::Training(TrainEvent::Step(_)) if promoted.is_some() => stop.store(true, Ordering::Relaxed),
            _ => {}
        });
        let Outcome { best, weights: found, interrupted, .. } = outcome.unwrap();
        assert_eq!((best.epochs, Some(best.trial), interrupted), (1, promoted, true));
        assert!(
            bits(&found) == judged[best.trial]
                && bits(&weights(best.trial).join("last.safetensors")) != judged[best.trial]
        );
        // And in the end those of the last result.
        let outcome = run(search, &folder, &mut |_, _| ()).unwrap();
        assert_eq!(outcome.best.epochs, 3);
        assert_eq!(bits(&outcome.weights), bits(&weights(outcome.best.trial).join("last.safetensors")));
    });
}

/// Top-1 of a checkpoint on the held-out images of [`recipe`] in percent.
fn judged(weights: &Path, data: &str) -> f64 {
    let model = load(weights).unwrap().model;
    let source = residual_data::Source::open(data, None).unwrap();
    let (_, held_out) = source.training(Some(0.3), 5).unwrap();
    let options = residual_infer::EvaluateOptions { engine: Options::threads(1), ..Default::default() };
    let never = AtomicBool::new(false);
    let judged = residual_infer::evaluate(&model, &held_out.unwrap(), &options, &never, &mut |_, _| ()).unwrap();
    judged.unwrap().top1
}

/// What a kill leaves between the last row of a paused trial and its result: the row, with or without its checkpoint.
#[test]
fn a_paused_trial_that_was_killed_before_its_result_is_judged_by_its_checkpoint() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    with_search(Method::Asha, recipe(&data, 9), 1, |search| {
        let [whole, parts] = ["whole", "parts"].map(|name| place.path().join(name));
        run(search, &whole, &mut |_, _| ()).unwrap();
        let journal = std::fs::read_to_string(whole.join("journal.jsonl")).unwrap();
        let without_result: String = journal.split_inclusive('\n').take(2).collect();
        std::fs::write(whole.join("journal.jsonl"), without_result).unwrap();
        let outcome = run(search, &whole, &mut |event, _| {
            assert!(!matches!(event, Event::Training(TrainEvent::Step(_))), "a checkpoint is not trained again");
        });
        let expected = outcome.unwrap().best.top1;
        assert!(journal.contains(&format!("\"top1\":{expected}")), "{journal}");

        let result = run(search, &parts, &mut |event, stop| {
            stop.fetch_or(matches!(event, Event::Training(TrainEvent::Step(_))), Ordering::Relaxed);
        });
        assert!(matches!(result, Err(SearchError::NoResult { failure: None })));
        let metrics = |folder: &Path| run_of(&folder.join("trials"), "-trial-0").join("metrics.csv");
        let rows = std::fs::read_to_string(metrics(&whole)).unwrap();
        // A result that training does not give.
        let wrong = rows.replace(&format!(",{expected},"), ",1.25,");
        assert_ne!(wrong, rows);
        std::fs::write(metrics(&parts), wrong).unwrap();
        let outcome = run(search, &parts, &mut |_, _| ()).unwrap();
        assert_eq!(outcome.best.top1, expected);
        let [a, b] = [&whole, &parts].map(|folder| bits(&folder.join("best.safetensors")));
        assert_eq!(a, b);
    });
}

#[test]
fn without_a_network_within_the_limits_nothing_is_trained_and_the_smallest_is_tried_where_chance_finds_none() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let latency = |_: &residual_graph::Graph, _| Ok(0.0);
    let widths = "{ from = 4, to = 60 }";
    let text = format!(
        "family = 'cifar_resnet'\ndepths = [1, 1, 1]\nwidths = {{ each = [{widths}, {widths}, {widths}] }}\nimage_size = 12"
    );
    let space = NetworkSpace::parse("s", &text).unwrap();
    let smallest = space.clone().for_images(3, 3).extremes().unwrap()[0].clone();
    let search = |method, macs: u64| {
        let (limits, length) =
            (Limits { macs: Some(macs), ..Limits::default() }, Length { trials: Some(3), budget: None });
        Search::new(space.clone(), limits, &latency, method, recipe(&data, 1).into(), length).unwrap()
    };
    for method in [Method::Random, Method::Supernet] {
        let folder = place.path().join(format!("none-{method}"));
        let error = run(&search(method, smallest.macs - 1), &folder, &mut |event, _| panic!("{event:?}")).unwrap_err();
        assert!(matches!(error, SearchError::Limits) && !folder.join("journal.jsonl").exists(), "{error}");
        let outcome = run(&search(method, smallest.macs), &place.path().join(method.name()), &mut |_, _| ()).unwrap();
        assert_eq!((outcome.trials, outcome.best.tried.macs), (1, smallest.macs));
    }
}

#[test]
fn trials_that_fail_are_recorded_and_ten_without_a_result_end_the_search() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let base = recipes(place.path(), &data, 1);
    let model = &base.recipe().model;
    let search = |space: &str| {
        let layers = layers(&recipe(&data, 1), &format!("model = {model:?}\n"));
        let recipes = Recipes::new(SettingSpace::open([space]).unwrap(), layers).unwrap();
        Search::of_recipes(recipes, Method::Random, Length { trials: Some(12), budget: None }).unwrap()
    };
    // The data have three classes.
    let some = search("num_classes=choose(2,3),lr=log(0.01,1)");
    let folder = place.path().join("some");
    let mut failed = 0;
    let outcome = run(&some, &folder, &mut |event, _| {
        if let Event::Failed { reason, .. } = event {
            assert!(reason.contains("expected a label below num_classes (2), got 2"), "{reason}");
            failed += 1;
        }
    });
    let outcome = outcome.unwrap();
    assert_eq!((outcome.trials, outcome.failed, outcome.scored.len()), (12, failed, 12 - failed));
    assert!((1..12).contains(&failed), "{failed}");
    run(&some, &folder, &mut |event, _| panic!("{event:?}")).unwrap();

    let none = search("num_classes=choose(1,2),lr=log(0.01,1)");
    let folder = place.path().join("none");
    for _ in 0..2 {
        let error = run(&none, &folder, &mut |_, _| ()).unwrap_err().to_string();
        assert!(
            error.starts_with("search: expected a result among the first 10 trials, got none; the first one failed: "),
            "{error}"
        );
        assert_eq!(results(&folder).len(), 10);
    }
}

#[test]
fn networks_that_do_not_exist_are_refused_before_the_first_trial() {
    let error = |space: &str, model: &str| {
        let base = Recipe { epochs: Some(1), model: model.into(), ..Recipe::default() };
        Recipes::new(SettingSpace::open([space]).unwrap(), vec![Layer::parse("base", &base.to_toml()).unwrap()])
            .unwrap_err()
    };
    for (space, model) in [("lr=log(0.1,1)", "resnet21"), ("model=choose(resnet20,resnet21)", "resnet20")] {
        let error = error(space, model);
        assert!(error.is_usage() && error.to_string().contains("resnet21"), "{error}");
    }
    let error = error("model=choose(resnet20,missing.toml)", "resnet20").to_string();
    assert!(error.starts_with("missing.toml: "), "{error}");
}

/// The bits of every tensor.
fn bits(path: &Path) -> Vec<(String, Vec<u32>)> {
    let tensors = load(path).unwrap().model.tensors;
    let bits =
        |tensor: &Tensor| tensor.as_f32().map_or(Vec::new(), |values| values.iter().map(|v| v.to_bits()).collect());
    tensors.iter().map(|(key, tensor)| (key.clone(), bits(tensor))).collect()
}

/// The only run in a folder of runs whose name ends so.
fn run_of(runs: &Path, name: &str) -> std::path::PathBuf {
    let paths = std::fs::read_dir(runs).unwrap().map(|entry| entry.unwrap().path());
    let mut of_name = paths.filter(|path| path.to_str().unwrap().ends_with(name) && path.join("config.toml").exists());
    let run = of_name.next().unwrap();
    assert_eq!(of_name.next(), None);
    run
}

#[test]
fn members_of_a_supernet_are_judged_and_fine_tuned_and_an_interruption_changes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    with_search(Method::Supernet, recipe(&data, 4), 6, |search| {
        let [whole, parts] = ["whole", "parts"].map(|name| place.path().join(name));
        let outcome = run(search, &whole, &mut |_, _| ()).unwrap();
        let trials = results(&whole);
        assert_eq!((trials.len(), outcome.failed, outcome.best.epochs), (6, 0, 1));
        assert!(trials.iter().all(|trial| trial.scores[0].0 == 0));
        // The best of those that no other one beats are fine-tuned, for a quarter of the epochs.
        let tuned = trials.iter().filter(|trial| trial.scores.len() == 2).count();
        assert!((1..=3).contains(&tuned) && outcome.front.len() <= tuned, "{tuned}");
        let runs = residual_train::Record::list(&whole.join("trials")).unwrap();
        assert_eq!(runs.len(), tuned);
        assert!(runs.iter().all(|run| run.rows.len() == 1 && (run.recipe.lr - 0.005).abs() < 1e-9));
        let graph = residual_zoo::from_toml(&std::fs::read_to_string(&outcome.description).unwrap()).unwrap().graph();
        assert_eq!(load(&outcome.weights).unwrap().model.graph, graph.unwrap());
        assert!(outcome.best.tried.parameters <= 4000);

        // Stops at every fifth step, and after every result.
        let (mut steps, mut rounds) = (0, 0);
        loop {
            let result = run(search, &parts, &mut |event, stop| match event {
                Event::Training(TrainEvent::Step(_)) => {
                    steps += 1;
                    stop.fetch_or(steps % 5 == 0, Ordering::Relaxed);
                }
                Event::Scored { .. } => stop.store(true, Ordering::Relaxed),
                _ => {}
            });
            rounds += 1;
            match result {
                Ok(outcome) if !outcome.interrupted => break,
                Ok(_) | Err(SearchError::NoResult { failure: None }) => {}
                Err(error) => panic!("{error}"),
            }
            assert!(rounds < 200);
        }
        assert!(rounds > 10, "{rounds}");
        assert_eq!(results(&parts), trials);
        let supernet =
            |folder: &Path| bits(&run_of(&folder.join("supernets"), "-supernet-0").join("weights/last.safetensors"));
        assert_eq!(supernet(&whole), supernet(&parts));
        assert_eq!(bits(&outcome.weights), bits(&parts.join("best.safetensors")));
        // A finished search is not repeated.
        run(search, &whole, &mut |event, _| panic!("{event:?}")).unwrap();
    });
}

#[test]
fn without_fine_tuning_the_best_member_is_cut_from_the_supernet() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let space = NetworkSpace::parse("s", SPACE).unwrap();
    let latency = |_: &residual_graph::Graph, _| Ok(0.0);
    let length = Length { trials: Some(40), budget: None };
    let limits = Limits { macs: Some(200_000), ..Limits::default() };
    let search = |method, epochs: u64| {
        Search::new(space.clone(), limits, &latency, method, recipe(&data, 3).into(), length)
            .and_then(|search| search.with_finetune_epochs(epochs))
    };
    let folder = place.path().join("search");
    let outcome = run(&search(Method::Supernet, 0).unwrap(), &folder, &mut |_, _| ()).unwrap();
    // The space has 16 networks, and the search ends when there is no other one within the limit.
    assert!((2..16).contains(&outcome.trials) && outcome.best.epochs == 0, "{}", outcome.trials);
    assert_eq!(outcome.scored.len(), outcome.trials);
    assert_eq!(residual_train::Record::list(&folder.join("trials")).unwrap().len(), 0);
    // Judged again as any other checkpoint, on the images that were held out.
    assert_eq!(judged(&outcome.weights, &data), outcome.best.top1);

    // A journal whose candidate is no network of the space that shares weights.
    let path = folder.join("journal.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    // Whatever is within the limit has four channels in its first stage.
    let invalid = NetworkSpace::parse("s", &SPACE.replace("[4, 8]", "[0, 8]")).unwrap();
    let changed = Search::new(invalid, limits, &latency, Method::Supernet, recipe(&data, 3).into(), length);
    let changed = changed.and_then(|search| search.with_finetune_epochs(0)).unwrap();
    std::fs::write(&path, text.replace("[4, 8]", "[0, 8]")).unwrap();
    let error = run(&changed, &folder, &mut |_, _| ()).unwrap_err().to_string();
    assert!(
        error.contains("journal.jsonl: trial ")
            && error.ends_with("expected a candidate of the space, got another one"),
        "{error}"
    );
    std::fs::write(&path, text).unwrap();

    let error = run(&search(Method::Supernet, 2).unwrap(), &folder, &mut |_, _| ()).unwrap_err().to_string();
    assert!(error.ends_with("journal.jsonl: finetune_epochs: expected 0, got 2"), "{error}");
    let error = search(Method::Random, 2).map(drop).unwrap_err().to_string();
    assert_eq!(error, "finetune_epochs: expected none with strategy random, got 2");
}

#[test]
fn a_supernet_that_another_process_trains_is_waited_for() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let folder = place.path().join("search");
    let space = NetworkSpace::parse("s", SPACE).unwrap().for_images(3, 3);
    let config = Supernets::new(&space).unwrap().all()[0].network().config.clone();
    let description = folder.join("descriptions").join("supernet-0.toml");
    std::fs::create_dir_all(description.parent().unwrap()).unwrap();
    std::fs::write(&description, residual_zoo::Config { name: "supernet-0".into(), ..config }.to_toml()).unwrap();
    let mut other = Some(std::fs::File::open(&description).unwrap());
    other.as_ref().unwrap().try_lock().unwrap();
    let mut waited = 0;
    with_search(Method::Supernet, recipe(&data, 1), 2, |search| {
        let outcome = run(search, &folder, &mut |event, _| match event {
            Event::Waiting { supernets } => {
                waited += supernets;
                // The other process ends before it has trained.
                other = None;
            }
            Event::Supernet { .. } => assert!(other.is_none(), "a supernet is trained by one process"),
            _ => {}
        });
        assert_eq!(outcome.unwrap().trials, 2);
    });
    assert_eq!(waited, 1);
}

#[test]
fn two_processes_share_the_supernet_and_its_members() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let folder = place.path().join("search");
    let scored = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                with_search(Method::Supernet, recipe(&data, 4), 8, |search| {
                    let result = run(search, &folder, &mut |event, _| {
                        if let Event::Scored { trial, epochs, .. } = event {
                            scored.lock().unwrap().push((*epochs, *trial));
                        }
                    });
                    result.unwrap();
                });
            });
        }
    });
    run_of(&folder.join("supernets"), "-supernet-0");
    let mut scored = scored.into_inner().unwrap();
    scored.sort_unstable();
    let judged: Vec<usize> = scored.iter().filter(|(epochs, _)| *epochs == 0).map(|&(_, trial)| trial).collect();
    assert_eq!(judged, (0..8).collect::<Vec<_>>());
    let tuned = scored.len() - judged.len();
    scored.dedup();
    assert!((1..=3).contains(&tuned) && scored.len() == 8 + tuned, "{scored:?}");
    assert_eq!(read(&folder).supernets.len(), 1);
}

#[test]
fn a_search_with_other_settings_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let folder = place.path().join("search");
    with_search(Method::Random, recipe(&data, 1), 1, |search| run(search, &folder, &mut |_, _| ()).unwrap());
    let refused = |method, recipe: Recipe| {
        with_search(method, recipe, 1, |search| run(search, &folder, &mut |_, _| ()).unwrap_err().to_string())
    };
    let error = refused(Method::Tpe, recipe(&data, 1));
    assert!(error.ends_with("journal.jsonl: strategy: expected \"random\", got \"tpe\""), "{error}");
    let error = refused(Method::Random, Recipe { lr: 0.1, ..recipe(&data, 1) });
    assert!(error.ends_with("journal.jsonl: recipe: expected \"lr = 0.05\", got \"lr = 0.1\""), "{error}");
    // More trials are no other search.
    with_search(Method::Random, recipe(&data, 1), 2, |search| {
        assert_eq!(run(search, &folder, &mut |_, _| ()).unwrap().trials, 2);
    });

    let space = || NetworkSpace::parse("s", SPACE).unwrap();
    let latency = |_: &residual_graph::Graph, _| Ok(0.0);
    let new = |method, recipe: Recipe| {
        Search::new(space(), Limits::default(), &latency, method, recipe.into(), Length::default())
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    let error = new(Method::Random, Recipe { val_split: Some(0.0), ..recipe(&data, 1) });
    assert_eq!(error, "val_split: expected a fraction above 0, as the data have no validation images, got 0");
    let error = new(Method::Asha, Recipe { max_steps: Some(3), ..recipe(&data, 9) });
    assert!(error.starts_with("epochs: expected alone, as asha gives its trials a part of the epochs"), "{error}");
    for method in [Method::Asha, Method::Hyperband, Method::TpeAsha] {
        let error = new(method, Recipe { val_interval: 2, ..recipe(&data, 9) });
        assert_eq!(
            error,
            format!("val_interval: expected 1, as {method} compares trials after some of their epochs, got 2")
        );
    }
    let error = new(Method::Supernet, Recipe { time_budget: Some("5m".into()), ..recipe(&data, 9) });
    assert!(error.starts_with("epochs: expected alone, as supernet trains for whole epochs"), "{error}");
    let error = new(Method::Supernet, Recipe { bce_loss: true, ..recipe(&data, 9) });
    assert!(error.starts_with("bce_loss: expected false, as supernet learns the softmax"), "{error}");
    let error = new(Method::Supernet, recipe(&data, 9));
    assert_eq!(error, "trials: expected a number, as supernet trains none of them, got none");
    let length = Length { trials: Some(3), budget: Some(std::time::Duration::from_secs(9)) };
    let refused = Search::new(space(), Limits::default(), &latency, Method::Supernet, recipe(&data, 9).into(), length);
    assert!(refused.map(drop).unwrap_err().to_string().starts_with("budget: expected none, as supernet takes"));
    let error = new(Method::Random, Recipe { weights: Some("x.safetensors".into()), ..recipe(&data, 1) });
    assert!(error.starts_with("weights: expected none: the networks come from the space"), "{error}");
}

fn layers(recipe: &Recipe, more: &str) -> Vec<Layer> {
    vec![Layer::parse("base", &recipe.to_toml()).unwrap(), Layer::parse("more", more).unwrap()]
}

/// Settings of the tiny data: learning rates, an optimiser, and a setting that only one of the optimisers has.
const SETTINGS: &str = "lr=log(0.01,1),opt=choose(sgd,adamw),momentum=choose(0.5,0.9)";

/// The recipe with a tiny network, which is described in `folder`.
fn recipes(folder: &Path, data: &str, epochs: u64) -> Recipes {
    let network = folder.join("net.toml");
    let text = "family = 'cifar_resnet'\ndepths = [1, 1, 1]\nwidths = [4, 4, 8]\nimage_size = 12\n";
    std::fs::write(&network, text).unwrap();
    let layers = layers(&recipe(data, epochs), &format!("model = {:?}\n", network.to_str().unwrap()));
    Recipes::new(SettingSpace::open([SETTINGS]).unwrap(), layers).unwrap()
}

#[test]
fn settings_are_searched_and_the_best_recipe_trains() {
    let place = tempfile::tempdir().unwrap();
    let data = data(place.path());
    let search =
        Search::of_recipes(recipes(place.path(), &data, 3), Method::TpeAsha, Length { trials: Some(11), budget: None })
            .unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| place.path().join(name));
    let outcome = run(&search, &whole, &mut |_, _| ()).unwrap();
    assert_eq!((outcome.trials, outcome.failed, outcome.best.epochs), (11, 0, 3));
    let record = read(&whole);
    let identities: std::collections::HashSet<&str> =
        record.history.trials().iter().map(|trial| &*trial.identity).collect();
    assert_eq!(identities.len(), 11, "no recipe is tried twice");
    assert_eq!(outcome.importance.map(|shares| shares.len()), Some(3));
    // The best recipe is a file of its own, with the settings of its trial and without those of the search.
    let best = Recipe::resolve(&[Layer::file(&outcome.description).unwrap()]).unwrap().recipe;
    for (name, value) in &outcome.best.tried {
        assert_eq!(best.value(name).as_ref(), Some(value));
    }
    assert_eq!((best.val_split, best.experiment, best.epochs), (Some(0.3), None, Some(3)));
    assert!(load(&outcome.weights).is_ok());
    // Trials are ordinary runs of these settings.
    let runs = residual_train::Record::list(&whole.join("trials")).unwrap();
    let of_best =
        runs.iter().find(|run| run.recipe.experiment == Some(format!("trial-{}", outcome.best.trial))).unwrap();
    assert_eq!((of_best.recipe.lr, of_best.recipe.opt), (best.lr, best.opt));

    // Interrupted at every fifth step, it ends the same.
    let mut steps = 0;
    loop {
        let result = run(&search, &parts, &mut |event, stop| {
            if let Event::Training(TrainEvent::Step(_)) = event {
                steps += 1;
                stop.fetch_or(steps % 5 == 0, Ordering::Relaxed);
            }
        });
        match result {
            Ok(outcome) if !outcome.interrupted => break,
            Ok(_) | Err(SearchError::NoResult { failure: None }) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(steps < 1000);
    }
    assert_eq!(results(&whole), results(&parts));
}

/// By hand: AdamW has no momentum, so both choices of it are one recipe.
#[test]
fn settings_without_effect_are_no_other_recipe() {
    let place = tempfile::tempdir().unwrap();
    let recipes = recipes(place.path(), &data(place.path()), 1);
    let identity = |choices: [usize; 3]| recipes.identity(&Candidate(choices.to_vec())).unwrap().unwrap();
    assert_eq!(identity([0, 1, 0]), "opt = \"adamw\"\nlr = 0.01\n");
    assert_eq!(identity([0, 1, 0]), identity([0, 1, 1]));
    assert_ne!(identity([0, 0, 0]), identity([0, 0, 1]));
    assert!(recipes.is_ordered(0) && !recipes.is_ordered(1));

    let supernet = Search::of_recipes(recipes, Method::Supernet, Length { trials: Some(1), budget: None });
    let error = supernet.map(drop).unwrap_err().to_string();
    assert_eq!(error, "strategy: expected one for settings, as only networks share weights, got supernet");

    // A recipe that is invalid with every choice is refused with the reason.
    let error = |space: &str, more: &str| {
        let base = Recipe { epochs: Some(1), ..Recipe::default() };
        Recipes::new(SettingSpace::open([space]).unwrap(), layers(&base, more)).unwrap_err().to_string()
    };
    let wrong =
        error("mixup=uniform(0.1,0.5)", "weights = \"a.safetensors\"\ncache_features = true\nfreeze = \"backbone\"\n");
    assert!(wrong.contains("cache_features"), "{wrong}");
}

fn settings() -> Settings {
    Settings {
        space: "family = 'plain'".into(),
        strategy: "random".into(),
        seed: 1,
        screen: 1,
        max_macs: None,
        max_params: Some(5),
        target_latency: None,
        finetune_epochs: None,
        recipe: "epochs = 1\n".into(),
    }
}

fn proposed(trial: usize) -> Entry {
    Entry::Proposed {
        trial,
        candidate: vec![trial],
        identity: format!("é{trial}"),
        epochs: 1,
        cost: Some(Cost { parameters: 2, macs: 3, latency: Some(0.1) }),
        settings: None,
    }
}

#[test]
fn a_torn_last_line_is_removed_by_the_next_process_that_writes() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal.jsonl");
    let journal = Journal::new(&path);
    assert_eq!(journal.read().unwrap().settings, None);
    journal.begin(&settings()).unwrap();
    journal.update(|_| Ok((vec![proposed(0)], ()))).unwrap();
    let whole = std::fs::read(&path).unwrap();
    journal.update(|_| Ok((vec![proposed(1)], ()))).unwrap();
    let longer = std::fs::read(&path).unwrap();
    for end in whole.len()..longer.len() {
        std::fs::write(&path, &longer[..end]).unwrap();
        assert_eq!(journal.read().unwrap().history.trials().len(), 1);
        journal.begin(&settings()).unwrap();
        let scored = Entry::Scored { trial: 0, epochs: 1, top1: 50.0, seconds: 1.5 };
        journal.update(|record| Ok((vec![scored], assert_eq!(record.history.trials().len(), 1)))).unwrap();
        let record = journal.read().unwrap();
        assert_eq!((record.history.trials()[0].score(), record.seconds[0]), (Some(50.0), 1.5));
    }
}

#[test]
fn what_is_no_journal_is_refused_by_its_line() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("j");
    let journal = Journal::new(&path);
    journal.begin(&settings()).unwrap();
    let begin = std::fs::read_to_string(&path).unwrap();
    let proposed = "{\"event\":\"proposed\",\"trial\":0,\"candidate\":[0],\"identity\":\"a\",\"epochs\":1,\"cost\":{\"parameters\":2,\"macs\":3,\"latency\":null}}\n";
    let cases = [
        ("x\n".to_owned(), "line 1: expected an entry of a journal, got "),
        (proposed.to_owned(), "line 1: expected the settings first, got "),
        (format!("{begin}{begin}"), "line 2: expected the settings once, got "),
        (format!("{begin}{proposed}{proposed}"), "line 3: expected trial 1, with a new candidate, got "),
        (
            format!("{begin}{{\"event\":\"failed\",\"trial\":0,\"reason\":\"\"}}\n"),
            "line 2: expected a trial below 0, got ",
        ),
        (
            format!("{begin}{{\"event\":\"promoted\",\"trial\":18446744073709551615,\"epochs\":2}}\n"),
            "line 2: expected a trial below 0",
        ),
        (format!("{begin}{{\"event\":\"unknown\"}}\n"), "line 2: expected an entry of a journal, got "),
    ];
    for (text, expected) in cases {
        std::fs::write(&path, &text).unwrap();
        let error = journal.read().unwrap_err().to_string();
        assert!(error.contains(&format!("{}: {expected}", path.display())) && !error.contains('\n'), "{error}");
        journal.update(|_| Ok((vec![], ()))).unwrap_err();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "a refused journal is not changed");
    }
    std::fs::write(&path, b"\xff\n").unwrap();
    assert!(journal.read().unwrap_err().to_string().ends_with("byte 0: expected UTF-8, got something else"));
}
