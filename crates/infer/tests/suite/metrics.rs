//! An evaluation's metrics are those of scikit-learn, on stored logits (golden/metrics.py wrote them and the results).

use residual_data::{DataError, Dataset, Format, Sample};
use residual_engine::Options;
use residual_graph::{Builder, Op};
use residual_infer::{
    Classifier, EvaluateOptions, Evaluation, PrecisionRecall, TemperatureError, calibrate, evaluate, fit_temperature,
};
use residual_model::Model;
use residual_preprocess::Preprocessing;
use residual_tensor::{NamedTensors, Tensor};
use serde_json::Value;
use std::sync::Arc;

fn golden(part: &str) -> Value {
    let golden: Value = serde_json::from_str(include_str!("../golden/metrics.json")).unwrap();
    golden[part].clone()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn labels(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|label| label.as_u64().unwrap() as u32).collect()
}

fn close(got: f64, expected: &Value, tolerance: f64) {
    let expected = expected.as_f64().unwrap();
    assert!((got - expected).abs() <= tolerance, "{got}, expected {expected}");
}

/// Images of one pixel whose channels are the logits that [`identity`] gives them.
struct Logits {
    logits: Vec<f32>,
    labels: Vec<u32>,
    soft: Vec<f32>,
    names: Vec<String>,
    format: Format,
}

impl Logits {
    fn new(golden: &Value) -> Self {
        let classes = golden["classes"].as_u64().unwrap() as usize;
        let soft = golden.get("targets").map(floats).unwrap_or_default();
        let logits = floats(&golden["logits"]);
        Self {
            labels: golden.get("labels").map_or_else(|| vec![0; logits.len() / classes], labels),
            logits,
            soft,
            names: (0..classes).map(|class| format!("class {class}")).collect(),
            format: Format {
                image_size: Some([1, 1]),
                channels: classes,
                normalized: true,
                mean: vec![0.0; classes],
                std: vec![1.0; classes],
            },
        }
    }
}

impl Dataset for Logits {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn soft_label(&self, index: usize) -> Option<&[f32]> {
        let classes = self.names.len();
        (!self.soft.is_empty()).then(|| &self.soft[index * classes..][..classes])
    }

    fn is_multi_label(&self) -> bool {
        !self.soft.is_empty()
    }

    fn class_names(&self) -> &[String] {
        &self.names
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let channels = self.names.len();
        let values = self.logits[index * channels..][..channels].to_vec();
        Ok(Sample::Normalized { height: 1, width: 1, channels, values })
    }

    fn describe(&self, index: usize) -> String {
        format!("image {index}")
    }

    fn format(&self) -> &Format {
        &self.format
    }
}

/// A network whose logits are the channels of its pixel.
fn identity(names: &[String]) -> Model {
    let classes = names.len();
    let mut net = Builder::new("identity", [classes, 1, 1]);
    let flat = net.flatten("flatten", net.input()).unwrap();
    let head = Op::Linear { in_features: classes, out_features: classes, bias: false, quantized: false };
    let out = net.push("fc", head, &[flat]).unwrap();
    let graph = net.finish(out).unwrap();
    let weight = (0..classes * classes).map(|index| f32::from(u8::from(index % (classes + 1) == 0))).collect();
    let tensors = NamedTensors::from_iter([("fc.weight".to_owned(), Tensor::f32(&[classes, classes], weight))]);
    let preprocessing = Preprocessing::unscaled([1, 1], &vec![0.0; classes], &vec![1.0; classes]);
    Model::new(graph, tensors, preprocessing, names.to_vec()).unwrap()
}

fn judged(golden: &Value, threads: usize) -> Evaluation {
    let data = Logits::new(golden);
    let model = identity(&data.names);
    let data: Arc<dyn Dataset> = Arc::new(data);
    let options = EvaluateOptions { engine: Options::threads(threads), ..EvaluateOptions::default() };
    evaluate(&model, &data, &options, &Default::default(), &mut |_, _| ()).unwrap().unwrap()
}

fn same(got: PrecisionRecall, expected: &Value) {
    for (got, key) in [(got.precision, "precision"), (got.recall, "recall"), (got.f1, "f1-score")] {
        close(got, &expected[key], 1e-12);
    }
}

#[test]
fn classes_and_their_means_are_those_of_a_classification_report() {
    let golden = golden("single_label");
    let evaluation = judged(&golden, 1);
    for (class, metrics) in evaluation.classes.iter().enumerate() {
        assert_eq!(metrics.name, format!("class {class}"));
        match golden["report"].get(class.to_string()) {
            Some(expected) => {
                same(metrics.values, expected);
                close(metrics.support as f64, &expected["support"], 0.0);
            }
            // It neither occurs nor is predicted: the report does not list it, and no mean includes it.
            None => assert!(!metrics.occurs(), "{metrics:?}"),
        }
    }
    assert_eq!(evaluation.classes.iter().filter(|class| class.occurs()).count(), 7);
    same(evaluation.macro_average, &golden["report"]["macro avg"]);
    same(evaluation.weighted_average, &golden["report"]["weighted avg"]);
    assert_eq!(serde_json::to_value(evaluation.confusion().unwrap()).unwrap(), golden["confusion"]);
    let wrong: u64 = evaluation.wrong().len() as u64;
    close(100.0 * (1.0 - wrong as f64 / evaluation.images as f64), &golden["top1"], 1e-9);
}

#[test]
fn accuracies_losses_and_calibration_are_those_of_the_definitions() {
    let golden = golden("single_label");
    let evaluation = judged(&golden, 1);
    let pairs = [
        (evaluation.top1, "top1"),
        (evaluation.top5, "top5"),
        (evaluation.calibration.loss, "loss"),
        (evaluation.calibration.brier, "brier"),
    ];
    pairs.into_iter().for_each(|(got, key)| close(got, &golden[key], 1e-9));
    // Confidences are stored in single precision.
    close(evaluation.calibration.ece, &golden["ece"], 1e-6);
}

#[test]
fn intervals_are_those_of_another_bootstrap_and_the_same_for_any_number_of_threads() {
    let golden = golden("single_label");
    let evaluation = judged(&golden, 1);
    for end in 0..2 {
        // The ends of 1000 resamples vary by about a tenth of the interval.
        close(evaluation.top1_interval[end], &golden["top1_interval"][end], 1.4);
        close(evaluation.macro_f1_interval.unwrap()[end], &golden["macro_f1_interval"][end], 0.016);
    }
    let again = judged(&golden, 3);
    assert_eq!(again.top1_interval, evaluation.top1_interval);
    assert_eq!(again.macro_f1_interval, evaluation.macro_f1_interval);
    assert_eq!(again.results, evaluation.results);
}

/// One row is an image with a logit that is not finite: it has no prediction.
#[cfg(feature = "parquet")]
#[test]
fn a_parquet_file_of_predictions_has_the_results() {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::{Field, Row};
    use residual_infer::write_predictions;
    let mut data = Logits::new(&golden("single_label"));
    data.logits[8] = f32::NAN;
    let model = identity(&data.names);
    let data: Arc<dyn Dataset> = Arc::new(data);
    let evaluation =
        evaluate(&model, &data, &EvaluateOptions::default(), &Default::default(), &mut |_, _| ()).unwrap().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.parquet");
    write_predictions(&path, &evaluation, &*data).unwrap();
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let fields = |row: Row| row.get_column_iter().map(|(_, field)| field.clone()).collect::<Vec<Field>>();
    let rows: Vec<Vec<Field>> = reader.get_row_iter(None).unwrap().map(|row| fields(row.unwrap())).collect();
    assert_eq!(rows.len(), evaluation.results.len());
    let class = |class: u32| Field::Str(format!("class {class}"));
    for (row, result) in rows.iter().zip(&evaluation.results) {
        let expected = [
            Field::Str(format!("image {}", result.index)),
            Field::Long(result.index as i64),
            class(result.label),
            result.predicted.map_or(Field::Null, class),
            Field::Float(result.probability),
            Field::Bool(result.correct),
        ];
        assert_eq!(row[..6], expected);
        assert!(matches!(row[6], Field::Double(loss) if loss == result.loss || result.predicted.is_none()), "{row:?}");
    }
    assert_eq!(rows[1][3], Field::Null);
}

#[test]
fn images_of_several_classes_have_the_metrics_of_multi_label_data() {
    let golden = golden("multi_label");
    let evaluation = judged(&golden, 1);
    let metrics = evaluation.multi_label.unwrap();
    close(metrics.mean_average_precision, &golden["mean_average_precision"], 1e-12);
    close(metrics.macro_auroc, &golden["macro_auroc"], 1e-12);
    close(metrics.micro_f1, &golden["report"]["micro avg"]["f1-score"], 1e-12);
    close(evaluation.calibration.loss, &golden["loss"], 1e-9);
    for (row, class) in labels(&golden["present"]).into_iter().enumerate() {
        let ranking = evaluation.classes[class as usize].ranking.unwrap();
        close(ranking.average_precision.unwrap(), &golden["average_precision"][row], 1e-12);
        close(ranking.auroc.unwrap(), &golden["auroc"][row], 1e-12);
    }
    let absent = evaluation.classes[4].ranking.unwrap();
    assert_eq!((absent.average_precision, absent.auroc), (None, None));
    for (class, metrics) in evaluation.classes.iter().enumerate() {
        same(metrics.values, &golden["report"][class.to_string()]);
    }
    same(evaluation.macro_average, &golden["report"]["macro avg"]);
    assert_eq!((evaluation.confusion(), evaluation.macro_f1_interval), (None, None));
}

#[test]
fn a_models_temperature_changes_its_probabilities_and_neither_its_logits_nor_its_classes() {
    let golden = golden("single_label");
    let data = Logits::new(&golden);
    let plain = identity(&data.names);
    let temperature = golden["temperature"].as_f64().unwrap() as f32;
    let cooled = plain.clone().with_temperature(temperature).unwrap();
    let first = data.logits[..8].to_vec();
    let data: Arc<dyn Dataset> = Arc::new(data);
    let judge = |model| evaluate(model, &data, &EvaluateOptions::default(), &Default::default(), &mut |_, _| ());
    let [before, after] = [&plain, &cooled].map(|model| judge(model).unwrap().unwrap());
    close(after.calibration.loss, &golden["cooled"]["loss"], 1e-6);
    close(after.calibration.ece, &golden["cooled"]["ece"], 1e-6);
    assert_eq!((after.uncalibrated, before.uncalibrated), (Some(before.calibration), None));
    assert_eq!((after.top1, &after.classes), (before.top1, &before.classes));
    let fitted = calibrate(&plain, &data, &EvaluateOptions::default(), &Default::default(), &mut |_, _| ());
    close(fitted.unwrap().unwrap().into(), &golden["temperature"], 1e-5);

    let classification = Classifier::new(cooled).unwrap().classify_nhwc(&first).unwrap().remove(0);
    assert_eq!(classification.logits(), first);
    let (got, expected) = (classification.top(1)[0].probability, after.results[0].probability);
    assert!((got - expected).abs() < 1e-6, "{got}, expected {expected}");
}

#[test]
fn the_temperature_is_the_minimum_that_scipy_finds() {
    let golden = golden("single_label");
    let (logits, labels) = (floats(&golden["logits"]), labels(&golden["labels"]));
    let temperature = fit_temperature(&logits, &labels, 8).unwrap();
    close(temperature.into(), &golden["temperature"], 1e-5);
    // Images without finite logits have no part in it.
    let more = [&logits[..], &[f32::NAN; 8]].concat();
    assert_eq!(fit_temperature(&more, &[&labels[..], &[0]].concat(), 8).unwrap(), temperature);
}

#[test]
fn a_temperature_that_does_not_exist_is_refused() {
    assert_eq!(fit_temperature(&[f32::NAN, 0.0], &[0], 2), Err(TemperatureError::NoImages));
    let right = [3.0, 1.0, 0.0, 2.0];
    assert_eq!(fit_temperature(&right, &[0, 1], 2), Err(TemperatureError::AllCorrect { images: 2 }));
    assert_eq!(fit_temperature(&right, &[1, 0], 2), Err(TemperatureError::NoSignal { images: 2 }));
}
