//! A Parquet file of features has what was written, as another reading of it says.
#![cfg(feature = "parquet")]

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use residual_graph::Shape;
use residual_infer::{FeatureFile, FeatureRow, FeatureTable, LayerFeatures};

#[test]
fn a_row_has_its_path_its_label_and_its_values_in_torch_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.parquet");
    let (map, vector) = (Shape { height: 1, width: 2, channels: 2 }, Shape { height: 1, width: 1, channels: 3 });
    let source = |index: usize| FeatureRow { path: format!("{index}.jpg"), label: (index != 1).then_some(index) };
    let contents = FeatureTable {
        sources: (0..4).map(source).collect(),
        classes: ["a", "b", "c", "d"].map(String::from).to_vec(),
        layers: vec![("layer1".into(), map), ("pooled".into(), vector)],
    };
    let mut file = FeatureFile::create(&path, contents).unwrap();
    let features = |first: usize, count: usize| {
        let values = |shape: Shape| (0..count * shape.len()).map(|index| (100 * first + index) as f32).collect();
        [("layer1", map), ("pooled", vector)].map(|(layer, shape)| LayerFeatures {
            layer: layer.into(),
            shape,
            values: values(shape),
        })
    };
    file.push(&[0, 1], &features(0, 2)).unwrap();
    // Image 2 was skipped.
    file.push(&[3], &features(3, 1)).unwrap();
    assert!(!path.exists());
    assert_eq!(file.finish().unwrap(), 3);

    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let metadata = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    assert!(metadata.iter().any(|pair| pair.value.as_deref() == Some(r#"{"layer1":[2,1,2],"pooled":[3]}"#)));
    let rows: Vec<Row> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    let float = |field: &Field| match field {
        Field::Float(value) => value.to_string(),
        other => panic!("{other:?}"),
    };
    let row = |row: &Row| {
        let fields: Vec<(String, Field)> = row.get_column_iter().map(|(name, f)| (name.clone(), f.clone())).collect();
        let [(_, path), (_, label), (_, layer1), (_, pooled)] = &fields[..] else { panic!("{fields:?}") };
        let list = |field: &Field| match field {
            Field::ListInternal(list) => list.elements().iter().map(float).collect::<Vec<_>>().join(" "),
            other => panic!("{other:?}"),
        };
        format!("{path} {label} {} {}", list(layer1), list(pooled))
    };
    let expected =
        ["\"0.jpg\" 0 0 2 1 3 0 1 2", "\"1.jpg\" null 4 6 5 7 3 4 5", "\"3.jpg\" 3 300 302 301 303 300 301 302"];
    assert_eq!(rows.iter().map(row).collect::<Vec<_>>(), expected);
}
