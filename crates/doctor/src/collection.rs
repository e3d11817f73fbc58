//! The images of a source, to be examined whatever is wrong with them.

use crate::DoctorError;
use crate::finding::counted;
use residual_data::{DataError, Dataset, Sample, Source, Split, Survey, read_image, read_image_file};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// The images of all splits of a source, in order, with their classes.
pub struct Collection {
    name: String,
    splits: Vec<SplitImages>,
    classes: Vec<String>,
    places: Vec<Place>,
    survey: Option<Survey>,
    notes: Vec<String>,
    is_multi_label: bool,
}

/// A split and its images, which lie next to each other in the collection.
struct SplitImages {
    split: Option<Split>,
    first: usize,
    dataset: Option<Arc<dyn Dataset>>,
}

struct Place {
    class: u32,
    split: u8,
    /// The file of an image in a class folder; other images are in their split's dataset.
    file: Option<PathBuf>,
}

impl Collection {
    /// The images of `source`. Class folders are taken as they are, also where training would refuse them.
    ///
    /// # Errors
    /// If a folder, or of other sources a split, cannot be read.
    pub fn open(source: &Source) -> Result<Self, DoctorError> {
        let mut collection = Self {
            name: source.name().to_owned(),
            splits: Vec::new(),
            classes: Vec::new(),
            places: Vec::new(),
            survey: source.survey()?,
            notes: Vec::new(),
            is_multi_label: false,
        };
        let mut numbers = HashMap::new();
        match collection.survey.take() {
            Some(survey) => collection.add_folders(survey, &mut numbers),
            None => collection.add_datasets(source, &mut numbers)?,
        }
        if collection.places.is_empty() {
            let expected = if collection.survey.is_some() { "images in class folders" } else { "images" };
            return Err(DoctorError::invalid(&collection.name, expected, "none"));
        }
        Ok(collection)
    }

    fn add_folders(&mut self, survey: Survey, numbers: &mut HashMap<String, u32>) {
        for (split, surveyed) in (0..).zip(&survey.splits) {
            self.splits.push(SplitImages { split: surveyed.split, first: self.places.len(), dataset: None });
            for class in &surveyed.classes {
                let number = self.class_number(&class.name, numbers);
                let place = |path: &PathBuf| Place { class: number, split, file: Some(path.clone()) };
                self.places.extend(class.images.iter().map(place));
            }
        }
        self.notes.extend(survey.notes.iter().cloned());
        for split in &survey.splits {
            let ignored = split.classes.iter().flat_map(|class| &class.ignored).min();
            let count = split.classes.iter().map(|class| class.ignored.len()).sum();
            let place = split.folder.display();
            if let Some(first) = ignored {
                let files = counted(count, "file");
                self.notes
                    .push(format!("{place}: ignored {files} with another extension, such as {}", first.display()));
            }
            if !split.strays.is_empty() {
                let images = counted(split.strays.len(), "image");
                self.notes.push(format!("{place}: ignored {images} in no class folder"));
            }
        }
        self.survey = Some(survey);
    }

    fn add_datasets(&mut self, source: &Source, numbers: &mut HashMap<String, u32>) -> Result<(), DoctorError> {
        let splits = source.splits();
        let parts = if splits.is_empty() { vec![None] } else { splits.into_iter().map(Some).collect() };
        for (number, split) in (0..).zip(parts) {
            let dataset = source.split(split.unwrap_or(Split::Train))?;
            let classes: Vec<u32> = dataset.class_names().iter().map(|name| self.class_number(name, numbers)).collect();
            let first = self.places.len();
            let place = |index| Place { class: classes[dataset.label(index) as usize], split: number, file: None };
            self.places.extend((0..dataset.len()).map(place));
            self.is_multi_label |= dataset.is_multi_label();
            for note in dataset.notes() {
                if !self.notes.contains(note) {
                    self.notes.push(note.clone());
                }
            }
            self.splits.push(SplitImages { split, first, dataset: Some(dataset) });
        }
        Ok(())
    }

    /// The number of a class, which is that of an equal name in Unicode's normal form C.
    fn class_number(&mut self, name: &str, numbers: &mut HashMap<String, u32>) -> u32 {
        let next = self.classes.len() as u32;
        *numbers.entry(name.nfc().collect()).or_insert_with(|| {
            self.classes.push(name.to_owned());
            next
        })
    }

    /// The name that the source was opened with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are no images: a collection has some.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The classes of all splits; those of the training split come first.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The class of image `index`; of several labels the first one.
    pub fn class(&self, index: usize) -> u32 {
        self.places[index].class
    }

    /// The names of the splits, in order; one called `all` for a source without splits.
    pub fn split_names(&self) -> Vec<&'static str> {
        self.splits.iter().map(|images| images.split.map_or("all", Split::name)).collect()
    }

    /// The name of each split with the number of its images, in order.
    pub fn split_sizes(&self) -> Vec<(&'static str, usize)> {
        let ends = self.splits.iter().skip(1).map(|images| images.first).chain([self.places.len()]);
        let sizes = self.splits.iter().zip(ends).map(|(images, end)| end - images.first);
        self.split_names().into_iter().zip(sizes).collect()
    }

    /// The number of image `index`'s split.
    pub fn split(&self, index: usize) -> usize {
        self.places[index].split.into()
    }

    /// The number of the split that is trained on, if there is one.
    pub fn training_split(&self) -> Option<usize> {
        self.splits.iter().position(|images| matches!(images.split, None | Some(Split::Train)))
    }

    /// Whether an image may have any number of labels.
    pub fn is_multi_label(&self) -> bool {
        self.is_multi_label
    }

    /// What lies in the class folders, of a folder of them.
    pub fn survey(&self) -> Option<&Survey> {
        self.survey.as_ref()
    }

    /// Notes for the user about the source, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The file of image `index` in a class folder.
    pub fn file(&self, index: usize) -> Option<&Path> {
        self.places[index].file.as_deref()
    }

    /// Where image `index` is: a path, or a file and the image's number in it.
    pub fn describe(&self, index: usize) -> String {
        match &self.places[index].file {
            Some(path) => path.display().to_string(),
            None => {
                let (dataset, index) = self.in_dataset(index);
                dataset.describe(index)
            }
        }
    }

    /// The bytes of image `index`'s file; `None` if the source holds pixels, not files.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn bytes(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        match &self.places[index].file {
            Some(path) => read_image_file(path).map(Some),
            None => {
                let (dataset, index) = self.in_dataset(index);
                dataset.encoded(index)
            }
        }
    }

    /// Image `index`, decoded.
    ///
    /// # Errors
    /// If it cannot be read or decoded.
    pub fn sample(&self, index: usize) -> Result<Sample, DataError> {
        match &self.places[index].file {
            Some(path) => read_image(path).map(Sample::Pixels),
            None => {
                let (dataset, index) = self.in_dataset(index);
                dataset.sample(index)
            }
        }
    }

    /// The default mean and standard deviation of each channel, which undo the normalisation of values.
    pub fn statistics(&self) -> Option<(&[f32], &[f32])> {
        let format = self.splits.first()?.dataset.as_ref()?.format();
        Some((&format.mean, &format.std))
    }

    fn in_dataset(&self, index: usize) -> (&dyn Dataset, usize) {
        let images = &self.splits[self.split(index)];
        (&**images.dataset.as_ref().expect("an image without a file is in a dataset"), index - images.first)
    }
}
