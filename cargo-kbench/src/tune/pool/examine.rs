//! Checks of each finalist alone before the finals, by all workers at the same time.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::thread;

use kbench_runtime::driver::threads;

use super::{Pool, station};
use crate::evaluate::{examine, keep_examined};
use crate::harness::{Harness, RunError};
use crate::tune::search::{Search, Tried};

impl<'a> Pool<'a> {
    /// Checks the default and the finalists to be in full, on all workers, and runs the finalists under sanitizers. A worker that is lost
    /// leaves its part to the finals.
    pub(in crate::tune) fn examine(
        &mut self,
        search: &mut Search<'_>,
        harness: &mut Harness<'a>,
    ) -> Result<(), RunError> {
        let places = search.to_examine(&harness.results);
        let queue = Mutex::new(places.iter());
        let next = &|| queue.lock().expect("no panic while held").next().copied();
        let tried = &search.tried;
        let examined = thread::scope(|scope| {
            let mut threads = Vec::new();
            for station in self.stations.iter_mut().filter(|station| station.is_open) {
                threads.push(threads::spawn_scoped(scope, move || {
                    let mut examined = Vec::new();
                    while let Some(place) = next() {
                        let Tried { candidate, evaluation } = &tried[place];
                        // A worker that is lost is no fault of the variant, as in the search.
                        station.harness.worker.evaluates(Some(0));
                        let result = examine(&mut station.harness, candidate, evaluation);
                        station.harness.worker.evaluates(None);
                        let goes_on = result.is_ok();
                        examined.push((place, result));
                        if !goes_on {
                            break;
                        }
                    }
                    examined
                })?);
            }
            let joined = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            Ok::<_, RunError>(joined.flatten().collect::<BTreeMap<usize, _>>())
        })?;
        for (place, result) in examined {
            match result {
                Ok(examined) => keep_examined(harness, Arc::make_mut(&mut search.tried[place].evaluation), examined)?,
                Err(error) if station::is_of_worker(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let open = self.stations.iter().filter(|station| station.is_open);
        search.sanitize_ahead(harness, Some(&open.map(|station| &station.harness).collect::<Vec<_>>()))
    }
}
