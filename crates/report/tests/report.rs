//! Reports of small runs.

use residual_engine::Options;
use residual_kernels::Isa;
use residual_report::{Environment, Facts, Picture, RunComparison, RunReport, begin_report};
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

fn job(data: &Path, seed: u64) -> Job {
    let recipe = Recipe {
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
    };
    Job::prepare(recipe).unwrap()
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
