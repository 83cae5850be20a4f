//! Repeated warnings are counted, not written: a flood of refusals, or a database that is down,
//! must not fill a disk with the same line. Of each place in the code that warns, the first few
//! lines of a period are written, and at its end one line says how many more there were. So memory
//! is bounded by the number of such places, and nothing that happens once is ever held back.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{
    Event, Level, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// How long warnings are counted before their number is told.
const PERIOD: Duration = Duration::from_secs(10);
/// Lines of one place that are written within a period.
const WRITTEN_MAX: u64 = 5;

/// Counts warnings and errors by the place in the code; clones share it. Lets everything through
/// until [`RepeatCounter::count_until`] runs.
#[derive(Clone, Default)]
pub struct RepeatCounter(Arc<WarningCounts>);

#[derive(Default)]
struct WarningCounts {
    is_counting: AtomicBool,
    places: Mutex<HashMap<Identifier, WarningPlace>>,
}

struct WarningPlace {
    level: Level,
    /// The literal text, which names the place for a person.
    text: String,
    met: u64,
}

impl RepeatCounter {
    /// Counts until `stop` is cancelled, and tells at each period's end what was not written.
    pub async fn count_until(&self, stop: CancellationToken) {
        self.0.is_counting.store(true, Ordering::Release);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(PERIOD) => self.tell(),
            }
        }
        self.0.is_counting.store(false, Ordering::Release);
        self.tell();
    }

    /// Writes how many lines were not written, and begins a new period.
    fn tell(&self) {
        let places = std::mem::take(&mut *self.0.places.lock().unwrap_or_else(PoisonError::into_inner));
        for place in places.into_values().filter(|place| place.met > WRITTEN_MAX) {
            let times = place.met - WRITTEN_MAX;
            if place.level == Level::ERROR {
                tracing::error!(times, of = place.text, "repeated, and not written each time");
            } else {
                tracing::warn!(times, of = place.text, "repeated, and not written each time");
            }
        }
    }

    fn is_written(&self, event: &Event<'_>) -> bool {
        let metadata = event.metadata();
        // The count itself is always told.
        if *metadata.level() > Level::WARN || metadata.target() == module_path!() {
            return true;
        }
        let mut places = self.0.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(metadata.callsite()).or_insert_with(|| {
            let mut text = MessageText::default();
            event.record(&mut text);
            WarningPlace { level: *metadata.level(), text: text.0, met: 0 }
        });
        place.met += 1;
        place.met <= WRITTEN_MAX
    }
}

impl<S: Subscriber> Layer<S> for RepeatCounter {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        !self.0.is_counting.load(Ordering::Acquire) || self.is_written(event)
    }
}

/// The event's message.
#[derive(Default)]
struct MessageText(String);

impl Visit for MessageText {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use tracing_subscriber::{layer::SubscriberExt, registry};

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn count(&self, text: &str) -> usize {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap().matches(text).count()
        }
    }

    fn log() -> (Log, RepeatCounter, tracing::subscriber::DefaultGuard) {
        let (log, repeats) = (Log::default(), RepeatCounter::default());
        let writer = log.clone();
        let written = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let guard = tracing::subscriber::set_default(registry().with(repeats.clone()).with(written));
        // A place in the code that another test's thread has reached first may be taken for
        // unwanted: ask anew.
        tracing::callsite::rebuild_interest_cache();
        repeats.0.is_counting.store(true, Ordering::Release);
        (log, repeats, guard)
    }

    fn refuse(call: u64) {
        tracing::warn!(call, "a call was refused");
    }

    /// Ten thousand warnings of two kinds are twelve lines.
    #[test]
    fn ten_thousand_warnings_become_twelve_lines() {
        let (log, repeats, _guard) = log();
        for call in 0..10_000 {
            refuse(call);
            tracing::error!("the database is gone");
        }
        repeats.tell();

        assert_eq!(log.count("WARN"), 6);
        assert_eq!(log.count("ERROR"), 6);
        assert_eq!(log.count("times=9995 of=\"a call was refused\""), 1);
        assert_eq!(log.count("times=9995 of=\"the database is gone\""), 1);
    }

    /// What happens now and then is written each time.
    #[test]
    fn occasional_events_are_written_each_time() {
        let (log, repeats, _guard) = log();
        for call in 0..50 {
            refuse(call);
            if call % 5 == 4 {
                repeats.tell();
            }
        }

        assert_eq!(log.count("a call was refused"), 50);
        assert_eq!(log.count("repeated"), 0);
    }

    #[test]
    fn what_is_no_warning_is_never_counted() {
        let (log, _repeats, _guard) = log();
        for _ in 0..100 {
            tracing::info!("a page was copied");
        }

        assert_eq!(log.count("a page was copied"), 100);
    }

    /// A count is told within ten seconds though nothing follows, and at the end.
    #[tokio::test(start_paused = true)]
    async fn count_is_told_within_ten_seconds_or_finally() {
        let (log, repeats, _guard) = log();
        let stop = CancellationToken::new();
        let counting = tokio_util::task::TaskTracker::new().spawn({
            let (repeats, stop) = (repeats.clone(), stop.clone());
            async move { repeats.count_until(stop).await }
        });
        (0..100).for_each(refuse);
        sleep(PERIOD + Duration::from_secs(1)).await;
        assert_eq!(log.count("times=95"), 1);

        (0..10).for_each(refuse);
        stop.cancel();
        counting.await.unwrap();

        assert_eq!(log.count("times=5 "), 1);
        (0..10).for_each(refuse);
        assert_eq!(log.count("a call was refused"), 5 + 1 + 5 + 1 + 10, "nobody counts any more");
    }
}
