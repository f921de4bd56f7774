//! How far each reader of the log has come, for operators and for whoever waits for a view.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

/// Which reader, of which topic, of which partition.
pub type Place = (String, String, i32);

/// The next offset of every reader in this process.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    places: Arc<Mutex<BTreeMap<Place, i64>>>,
}

impl Progress {
    /// Everything before `next_offset` has been worked in.
    pub fn set(&self, reader: &str, topic: &str, partition: i32, next_offset: i64) {
        let place = (reader.to_owned(), topic.to_owned(), partition);
        self.places
            .lock()
            .expect("no holder of this lock panics")
            .insert(place, next_offset);
    }

    /// How far a reader has come; `None` if it has not yet said.
    pub fn get(&self, reader: &str, topic: &str, partition: i32) -> Option<i64> {
        let place = (reader.to_owned(), topic.to_owned(), partition);
        self.places
            .lock()
            .expect("no holder of this lock panics")
            .get(&place)
            .copied()
    }

    /// Every place, in order.
    pub fn all(&self) -> Vec<(Place, i64)> {
        let places = self.places.lock().expect("no holder of this lock panics");
        places
            .iter()
            .map(|(place, next)| (place.clone(), *next))
            .collect()
    }
}
