//! Reports of small runs.

use residual_data::Source;
use residual_doctor::{Check, Collection, ExamineOptions, examine};
use residual_engine::Options;
use residual_kernels::Isa;
use residual_report::{Environment, Facts, Picture, RunComparison, RunReport, TestResult, begin_report, dataset_page};
use residual_threads::Pool;
use residual_train::{Augment, Job, Layer, Outcome, Recipe, Record, RunFolder, Summary, train};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Names of classes that a page must escape.
const CLASSES: [&str; 3] = ["a<b>&\"c\"", "plain", "häuser"];

fn options() -> Options {
    Options::new(Isa::detect(), Arc::new(Pool::new(2)))
}

/// 90 photos of 18×14 in three classes that differ by colour.
fn photos(folder: &Path) -> PathBuf {
    let root = folder.join("photos");
    for index in 0..90usize {
        let class = index % 3;
        let pixel = |at: usize| {
            let mut pixel = [(at * (index + 3) % 97) as u8; 3];
            pixel[class] = 140 + (at * 7 % 90) as u8;
            pixel
        };
        let picture = Picture::new(18, 14, (0..18 * 14).flat_map(pixel).collect()).unwrap();
        let path = root.join(CLASSES[class]);
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join(format!("{index}.png")), picture.to_png()).unwrap();
    }
    root
}

fn recipe(data: &Path, seed: u64) -> Recipe {
    Recipe {
        data: data.display().to_string(),
        img_size: Some(16),
        batch_size: 16,
        epochs: Some(2),
        lr: 0.02,
        augment: Augment::Crop,
        val_split: Some(0.4),
        log_every: 2,
        log_gradients: Some(4),
        seed,
        ..Recipe::default()
    }
}

fn job(data: &Path, seed: u64) -> Job {
    Job::prepare(recipe(data, seed)).unwrap()
}

fn trained(job: &Job, runs: &Path) -> (RunFolder, Summary) {
    match train(job, runs, &options(), &Arc::default(), &mut |_| {}).unwrap() {
        Outcome::Finished(trained) => (RunFolder::open(&trained.summary.run).unwrap(), trained.summary),
        Outcome::Interrupted(_) => panic!("the run was interrupted"),
    }
}

fn facts(job: &Job, summary: &Summary) -> Facts {
    let environment = Environment { version: "1".into(), isa: "avx2".into(), threads: 2, ..Environment::default() };
    Facts::of(summary, job.settings(), environment)
}

fn collected(job: &Job, folder: &RunFolder, facts: Facts) -> RunReport {
    let stop = AtomicBool::new(false);
    RunReport::collect(job, folder, facts, &options(), &stop, &mut |_, _| {}).unwrap().unwrap()
}

/// Checks that a page is well formed, loads nothing, and has these sections.
fn check(page: &str, sections: &[&str]) {
    let (before, rest) = page.split_once("<script>").unwrap();
    let (script, after) = rest.split_once("</script>").unwrap();
    let options = roxmltree::ParsingOptions { allow_dtd: true, ..Default::default() };
    let text = format!("{before}{after}");
    let document = roxmltree::Document::parse_with_options(&text, options).unwrap_or_else(|error| panic!("{error}"));
    let got: Vec<&str> = document
        .descendants()
        .filter(|node| node.has_tag_name("section"))
        .filter_map(|node| node.attribute("id"))
        .collect();
    assert_eq!(got, sections);
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("//cdn"), "an address");
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        for name in ["src", "href"] {
            let inside =
                node.attribute(name).is_none_or(|place| place.starts_with("data:image/") || place.starts_with('#'));
            assert!(inside, "{} loads {:?}", node.tag_name().name(), node.attribute(name));
        }
        if node.has_tag_name("img") {
            assert!(!node.attribute("alt").unwrap_or_default().is_empty(), "a picture without a text");
        }
        if node.has_tag_name("a")
            && let Some(target) = node.attribute("href")
        {
            let is_there = document.descendants().any(|other| other.attribute("id") == Some(&target[1..]));
            assert!(is_there, "{target} leads nowhere");
        }
    }
    assert!(!script.contains("import") && !script.contains("fetch"));
}

const SECTIONS: [&str; 13] = [
    "curves",
    "metrics",
    "confusion",
    "classes",
    "calibration",
    "mistakes",
    "labels",
    "slices",
    "embeddings",
    "augmentation",
    "gradients",
    "settings",
    "resources",
];

#[test]
fn a_report_is_one_page_that_loads_nothing_and_escapes_foreign_names() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(&photos(folder.path()), 1);
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let report = collected(&job, &run, facts(&job, &summary));
    report.write().unwrap();
    let page = std::fs::read_to_string(run.report()).unwrap();
    check(&page, &SECTIONS);
    assert!(page.contains("a&lt;b&gt;&amp;&quot;c&quot;") && !page.contains("a<b>"));
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    let numbers: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(run.report_data()).unwrap()).unwrap();
    assert_eq!(numbers["schema"], 1);
    let held_out = &numbers["held_out"];
    let confusion: u64 = held_out["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(held_out["evaluation"]["images"], confusion);
    assert_eq!(
        held_out["evaluation"]["top1"].as_f64(),
        summary.best_top1,
        "the report judges the model that the run chose"
    );
    for plot in
        ["loss", "accuracy", "learning-rate", "throughput", "confusion", "embeddings", "gradient-mean", "update-ratio"]
    {
        let png = std::fs::read(run.plots().join(format!("{plot}.png"))).unwrap();
        assert!(image::load_from_memory(&png).unwrap().width() > 800, "{plot}");
    }
}

#[test]
fn equal_runs_have_equal_reports_but_for_the_section_about_resources() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(&photos(folder.path()), 2);
    let report = |runs: &str| {
        let (run, summary) = trained(&job, &folder.path().join(runs));
        let mut facts = facts(&job, &summary);
        facts.wall_clock.folder = "run".into();
        let report = collected(&job, &run, facts);
        let page = report.html();
        let (before, rest) = page.split_once("<section id=\"resources\"").unwrap();
        let mut numbers = report.json();
        numbers["facts"].as_object_mut().unwrap().remove("wall_clock").unwrap();
        (before.to_owned(), rest.split_once("</section>").unwrap().1.to_owned(), numbers)
    };
    assert!(report("first") == report("second"));
}

#[test]
fn a_report_that_was_interrupted_is_rebuilt_with_what_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(&photos(folder.path()), 3);
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let known = facts(&job, &summary);
    let whole = collected(&job, &run, known.clone()).html();
    begin_report(&run, &known).unwrap();
    let stop = AtomicBool::new(true);
    assert!(RunReport::collect(&job, &run, known.clone(), &options(), &stop, &mut |_, _| {}).unwrap().is_none());
    assert!(!run.report().exists());

    let recipe = Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap();
    let again = Job::resume(recipe, &run).unwrap();
    let read = Facts::read(&run).unwrap().unwrap();
    assert_eq!(read, known);
    assert!(collected(&again, &run, read).html() == whole);

    std::fs::write(run.report_data(), "{\"schema\": 1}").unwrap();
    let error = Facts::read(&run).unwrap_err().to_string();
    assert!(error.contains("report.json: expected the report of a run, got missing field"), "{error}");
}

#[test]
fn a_run_that_goes_on_keeps_its_test_result_with_its_step_and_drops_old_settings() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(&photos(folder.path()), 6);
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let test = TestResult { weights: "best".into(), images: 9, top1: 50.0, ..TestResult::default() };
    let known = Facts { test: Some(test), ..facts(&job, &summary) };
    let page = collected(&job, &run, known.clone()).html();
    assert!(
        page.contains("loss not a number (best weights).") && page.contains("<td>default</td>"),
        "as the run ended"
    );
    let page = collected(&job, &run, Facts { step: Some(summary.steps - 1), ..known }).html();
    let when = format!("(best weights, after {} steps; the run has been prolonged since)", summary.steps - 1);
    assert!(page.contains(&when) && !page.contains("<td>default</td>") && page.contains("<td>config.toml</td>"));
}

#[test]
fn images_that_have_changed_since_the_run_are_told_and_others_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = photos(folder.path());
    let (run, summary) = trained(&job(&data, 7), &folder.path().join("runs"));
    let again = || Job::resume(Recipe::resolve(&[Layer::run(&run.config()).unwrap()]).unwrap(), &run).unwrap();
    let known = facts(&again(), &summary);
    assert!(collected(&again(), &run, known.clone()).changed_images().is_empty());
    let [one, other] = ["0.png", "3.png"].map(|name| data.join(CLASSES[0]).join(name));
    let pixels = std::fs::read(&other).unwrap();
    std::fs::write(&one, [&pixels[..], b"more"].concat()).unwrap();
    let report = collected(&again(), &run, known.clone());
    assert_eq!(report.changed_images().len(), 1, "{:?}", report.changed_images());
    assert!(report.html().contains("images are not those that the run was started with"));
    std::fs::remove_file(&other).unwrap();
    let stop = AtomicBool::new(false);
    let error = RunReport::collect(&again(), &run, known, &options(), &stop, &mut |_, _| {}).err().unwrap();
    assert!(error.to_string().contains("images of 3 classes"), "{error}");
}

#[test]
fn a_run_without_held_out_images_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe { val_split: Some(0.0), ..recipe(&photos(folder.path()), 8) };
    let job = Job::prepare(recipe).unwrap();
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let report = collected(&job, &run, facts(&job, &summary));
    report.write().unwrap();
    check(&report.html(), &["curves", "augmentation", "gradients", "settings", "resources"]);
    assert!(report.html().contains("nothing was held out") && report.json()["held_out"].is_null());
}

#[test]
fn a_run_that_was_stopped_early_says_so() {
    let folder = tempfile::tempdir().unwrap();
    // At a learning rate of zero no epoch after the first is better.
    let recipe = Recipe { lr: 1e-30, epochs: Some(9), patience: Some(1), ..recipe(&photos(folder.path()), 9) };
    let job = Job::prepare(recipe).unwrap();
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let page = collected(&job, &run, facts(&job, &summary)).html();
    let state = format!("stopped early, after {} of 9 epochs", summary.epochs);
    assert!(summary.epochs < 9 && page.contains(&state), "{} epochs", summary.epochs);
}

#[test]
fn images_with_several_labels_have_their_own_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let data = photos(folder.path());
    let labels = ["sea", "sea;sand", "sand"];
    let row = |index: usize| format!("{}/{index}.png,{}\n", CLASSES[index % 3], labels[index % 3]);
    let table: String = (0..90).filter(|index| index % 3 > 0).map(row).collect();
    std::fs::write(data.join("labels.csv"), format!("path,label\n{table}")).unwrap();
    let recipe = Recipe { bce_loss: true, ..recipe(&data.join("labels.csv"), 10) };
    let job = Job::prepare(recipe).unwrap();
    let (run, summary) = trained(&job, &folder.path().join("runs"));
    let report = collected(&job, &run, facts(&job, &summary));
    report.write().unwrap();
    let page = report.html();
    let without = |name: &&str| !["confusion", "labels", "slices"].contains(name);
    check(&page, &SECTIONS.into_iter().filter(without).collect::<Vec<_>>());
    assert!(page.contains("<dt>mAP</dt>") && !page.contains("<dt>top-1</dt>"));
    assert!(report.json()["held_out"]["evaluation"]["multi_label"]["mean_average_precision"].is_number());
}

#[test]
fn a_comparison_lays_curves_over_each_other_and_lists_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let (data, runs) = (photos(folder.path()), folder.path().join("runs"));
    let records: Vec<Record> =
        [4, 5].map(|seed| Record::read(trained(&job(&data, seed), &runs).0.path()).unwrap()).to_vec();
    let comparison = RunComparison::new(records).unwrap();
    let page = comparison.html();
    check(&page, &["metrics", "curves", "settings"]);
    let numbers = comparison.json();
    assert_eq!(numbers["differences"], serde_json::json!({ "seed": ["4", "5"] }));
    assert_eq!(numbers["runs"].as_array().unwrap().len(), 2);
    assert!(page.contains("1-resnet20-photos held out"), "a line for each run");
}

#[test]
fn the_page_of_a_dataset_has_a_section_for_each_finding_with_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let root = photos(folder.path());
    let [first, second] = [0, 1].map(|class| root.join(CLASSES[class]));
    std::fs::copy(first.join("0.png"), second.join("<i>copy.png")).unwrap();
    std::fs::write(second.join("broken.png"), "x").unwrap();
    let images = Collection::open(&Source::open(root.to_str().unwrap(), None).unwrap()).unwrap();
    let options = ExamineOptions::new(options());
    let examination = examine(&images, None, &options, &AtomicBool::new(false), &mut |_| {}).unwrap().unwrap();
    let page = dataset_page(&images, &examination);
    let mut sections = vec!["findings"];
    sections.extend(examination.findings.iter().map(|finding| finding.check.name()));
    sections.extend(["label-check", "shortcuts"]);
    check(&page, &sections);
    assert!(examination.finding(Check::Contradictory).is_some() && examination.finding(Check::Unreadable).is_some());
    assert!(page.contains("&lt;i&gt;copy.png") && !page.contains("<i>"));
    assert!(page.contains("no picture"), "an unreadable image has no picture, and is named all the same");
}
