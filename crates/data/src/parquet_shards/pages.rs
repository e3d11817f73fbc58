//! The pages of images that were read last: a shuffled epoch comes back to a page for each of its images.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::file::ParquetFile;
use crate::DataError;

/// The most memory that pages take, but for the last one.
const MAX_BYTES: usize = 256 << 20;

/// The rows of a page.
type Page = Vec<Option<Arc<[u8]>>>;
/// A row group of the dataset, and the page's number in it.
type Key = (usize, usize);

/// The pages read last, up to a size, and where the pages of each row group begin.
#[derive(Default)]
pub(super) struct Pages {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    starts: HashMap<usize, Arc<[usize]>>,
    pages: HashMap<Key, (Arc<Page>, u64)>,
    /// The pages by the time of their last use.
    used: BTreeMap<u64, Key>,
    clock: u64,
    bytes: usize,
}

impl Pages {
    /// The image of a row, or `None` if it has none: of the row group `index` of the dataset, which is `group` of the file.
    pub(super) fn row(
        &self,
        file: &ParquetFile,
        index: usize,
        group: usize,
        row: usize,
    ) -> Result<Option<Arc<[u8]>>, DataError> {
        let known = self.lock().starts.get(&index).cloned();
        let starts = match known {
            Some(starts) => starts,
            None => {
                let starts: Arc<[usize]> = file.page_starts(group)?.into();
                self.lock().starts.insert(index, starts.clone());
                starts
            }
        };
        let page = starts.partition_point(|&start| start <= row) - 1;
        let (key, first) = ((index, page), starts[page]);
        let kept = self.lock().find(key);
        let rows = match kept {
            Some(rows) => rows,
            None => {
                let images = file.images(group, first, starts[page + 1] - first)?;
                let rows: Page = images.into_iter().map(|image| image.map(|image| image.data().into())).collect();
                let rows = Arc::new(rows);
                self.lock().keep(key, rows.clone());
                rows
            }
        };
        Ok(rows[row - first].clone())
    }

    /// Locks and ignores poisoning: no code that may panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&mut self, key: Key) -> Option<Arc<Page>> {
        let (page, time) = self.pages.get_mut(&key)?;
        self.clock += 1;
        self.used.remove(time);
        self.used.insert(self.clock, key);
        *time = self.clock;
        Some(page.clone())
    }

    /// Keeps a page in place of those that were used least recently.
    fn keep(&mut self, key: Key, page: Arc<Page>) {
        if self.pages.contains_key(&key) {
            // Another thread read it at the same time.
            return;
        }
        self.bytes += size(&page);
        self.clock += 1;
        self.used.insert(self.clock, key);
        self.pages.insert(key, (page, self.clock));
        while self.bytes > MAX_BYTES && self.pages.len() > 1 {
            let Some((_, oldest)) = self.used.pop_first() else { break };
            if let Some((page, _)) = self.pages.remove(&oldest) {
                self.bytes -= size(&page);
            }
        }
    }
}

/// The memory of a page, with some for each row.
fn size(page: &Page) -> usize {
    page.iter().map(|row| 64 + row.as_ref().map_or(0, |bytes| bytes.len())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(bytes: usize) -> Arc<Page> {
        Arc::new(vec![Some(vec![0; bytes].into())])
    }

    #[test]
    fn the_pages_used_last_are_kept_up_to_the_bound() {
        let mut state = State::default();
        let third = MAX_BYTES / 3 - 64;
        (0..3).for_each(|number| state.keep((0, number), page(third)));
        assert!(state.find((0, 0)).is_some());
        state.keep((0, 3), page(third));
        assert!(state.find((0, 1)).is_none(), "the one that was used least recently");
        assert!([0, 2, 3].iter().all(|&number| state.find((0, number)).is_some()));
        // One that is larger than the bound is kept alone.
        state.keep((1, 0), page(MAX_BYTES + 1));
        assert_eq!((state.pages.len(), state.used.len(), state.bytes), (1, 1, MAX_BYTES + 1 + 64));
    }
}
