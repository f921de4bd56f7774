//! The job's sums by window, country and currency. Pure: no I/O, no clock.
//!
//! The sums do not depend on the order of events. An event that can't be added changes nothing.

use crate::window::Window;
use schemas::{
    Currency, Timestamp,
    aggregates::RevenueByCountry,
    orders::{CreditNoteEvent, Event, OrderEvent},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    sync::Arc,
};

/// Maximum number of windows in memory, all sizes together. A window takes about 120 bytes, and 60 more while it waits
/// to be published, so all take about a third of a gigabyte. 200 countries with sales in every hour of a year, in one
/// currency each, need 1,825,000.
pub const WINDOWS_MAX: usize = 2_000_000;

/// The reason why an event can't be added. It is permanent, unless the program or its input changes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// A sum overflows 64 bits.
    #[error("the sum {sum} of the {} window {key} overflows 64 bits", window.name())]
    Overflow {
        /// The window's size.
        window: Window,
        /// The window's key in its topic.
        key: String,
        /// The name of the sum.
        sum: &'static str,
    },
    /// The start or the end of the event's window overflows 64 bits.
    #[error("no {} window contains the time {time}", window.name())]
    NoWindow {
        /// The window's size.
        window: Window,
        /// The event time.
        time: Timestamp,
    },
    /// The limit on windows in memory is reached.
    #[error("there are {windows_max} windows in memory, which is the limit")]
    TooMany {
        /// The limit.
        windows_max: usize,
    },
}

/// All windows of the job.
#[derive(Debug)]
pub struct Windows {
    hours: Tumbling,
    days: Tumbling,
    /// One copy of each country's name, shared by the keys.
    countries: HashSet<Arc<str>>,
    windows_max: usize,
}

/// The windows that a query asks for.
#[derive(Debug, Clone)]
pub struct Selection {
    /// The size of the windows.
    pub window: Window,
    /// Only this country's windows.
    pub country: Option<String>,
    /// Only windows that start at this time or later.
    pub from: Option<Timestamp>,
    /// Only windows that start before this time.
    pub to: Option<Timestamp>,
    /// Only windows after this start, country and currency.
    pub after: Option<(Timestamp, String, Currency)>,
    /// Maximum number of windows.
    pub count_max: usize,
}

/// A window's start, country and currency. The order is the series' order.
type Key = (Timestamp, Arc<str>, Currency);

/// The windows of one size.
#[derive(Debug)]
struct Tumbling {
    window: Window,
    sums: BTreeMap<Key, Sums>,
    /// Windows that changed since they were last taken.
    changed: BTreeSet<Key>,
}

/// A window's sums, or one event's contribution to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sums {
    orders: i64,
    credit_notes: i64,
    lines: i64,
    revenue: i64,
}

impl Default for Windows {
    fn default() -> Self {
        Self::bounded(WINDOWS_MAX)
    }
}

impl Windows {
    fn bounded(windows_max: usize) -> Self {
        Self {
            hours: Tumbling::new(Window::Hour),
            days: Tumbling::new(Window::Day),
            countries: HashSet::new(),
            windows_max,
        }
    }

    /// Adds an event to all of its windows. Changes nothing on an error.
    ///
    /// # Errors
    /// [`WindowsError`]: a sum or a window overflows 64 bits, or there are too many windows.
    pub fn apply(&mut self, event: &Event) -> Result<(), WindowsError> {
        let (time, country, currency, sums) = match event {
            Event::Order(OrderEvent::SaleImported(sale)) => {
                let sums = Sums::of((1, 0), sale.lines.len(), sale.total);
                (sale.ordered_at, &sale.country, sale.currency, sums)
            }
            Event::CreditNote(CreditNoteEvent::CreditNoteIssued(note)) => {
                let sums = Sums::of((0, 1), note.lines.len(), note.total);
                (note.issued_at, &note.country, note.currency, sums)
            }
        };
        let country = self.interned(country);
        let hour = self.hours.after_adding(time, &country, currency, sums)?;
        let day = self.days.after_adding(time, &country, currency, sums)?;
        let new = usize::from(!self.hours.holds(&hour.0)) + usize::from(!self.days.holds(&day.0));
        let windows_max = self.windows_max;
        if self.hours.sums.len() + self.days.sums.len() + new > windows_max {
            return Err(WindowsError::TooMany { windows_max });
        }
        self.hours.put(hour);
        self.days.put(day);
        Ok(())
    }

    /// Takes at most `count_max` of the windows that changed since they were last taken.
    pub fn take_changed(&mut self, window: Window, count_max: usize) -> Vec<RevenueByCountry> {
        let tumbling = self.of_mut(window);
        let mut taken = Vec::with_capacity(count_max.min(tumbling.changed.len()));
        while taken.len() < count_max
            && let Some(key) = tumbling.changed.pop_first()
        {
            taken.push(tumbling.sums[&key].result(window, &key));
        }
        taken
    }

    /// Marks windows as changed again, because they were taken and could not be published.
    pub fn mark_changed(&mut self, window: Window, taken: &[RevenueByCountry]) {
        for result in taken {
            let country = self.interned(&result.country);
            let key = (result.window_start, country, result.currency);
            let tumbling = self.of_mut(window);
            if tumbling.holds(&key) {
                tumbling.changed.insert(key);
            }
        }
    }

    /// Number of windows of a size in memory.
    pub fn count(&self, window: Window) -> usize {
        self.of(window).sums.len()
    }

    /// The selected windows, ordered by start, country and currency code.
    pub fn series(&self, selection: &Selection) -> Vec<RevenueByCountry> {
        let first = selection.from.unwrap_or(Timestamp(i64::MIN));
        let lower = match &selection.after {
            Some((start, country, currency)) if *start >= first => {
                Bound::Excluded((*start, Arc::from(country.as_str()), *currency))
            }
            Some(_) | None => Bound::Included((first, Arc::from(""), Currency::FIRST)),
        };
        let country = selection.country.as_deref();
        self.of(selection.window)
            .sums
            .range((lower, Bound::Unbounded))
            .take_while(|((start, _, _), _)| selection.to.is_none_or(|to| *start < to))
            .filter(|((_, held, _), _)| country.is_none_or(|country| **held == *country))
            .take(selection.count_max)
            .map(|(key, sums)| sums.result(selection.window, key))
            .collect()
    }

    fn interned(&mut self, country: &str) -> Arc<str> {
        if let Some(known) = self.countries.get(country) {
            return known.clone();
        }
        let name: Arc<str> = country.into();
        self.countries.insert(name.clone());
        name
    }

    fn of(&self, window: Window) -> &Tumbling {
        match window {
            Window::Hour => &self.hours,
            Window::Day => &self.days,
        }
    }

    fn of_mut(&mut self, window: Window) -> &mut Tumbling {
        match window {
            Window::Hour => &mut self.hours,
            Window::Day => &mut self.days,
        }
    }
}

impl Tumbling {
    fn new(window: Window) -> Self {
        Self {
            window,
            sums: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    fn holds(&self, key: &Key) -> bool {
        self.sums.contains_key(key)
    }

    /// The key of an event's window, and the window's sums with the event added. Changes nothing.
    fn after_adding(
        &self,
        time: Timestamp,
        country: &Arc<str>,
        currency: Currency,
        event: Sums,
    ) -> Result<(Key, Sums), WindowsError> {
        let window = self.window;
        let (start, _) = window
            .around(time)
            .ok_or(WindowsError::NoWindow { window, time })?;
        let key = (start, country.clone(), currency);
        let Some(held) = self.sums.get(&key) else {
            return Ok((key, event));
        };
        let sums = held
            .checked_add(event)
            .map_err(|sum| WindowsError::Overflow {
                window,
                key: event.result(window, &key).key(),
                sum,
            })?;
        Ok((key, sums))
    }

    fn put(&mut self, (key, sums): (Key, Sums)) {
        self.changed.insert(key.clone());
        self.sums.insert(key, sums);
    }
}

impl Sums {
    /// One event's contribution: `kind` is (1, 0) for a sale and (0, 1) for a credit note.
    fn of(kind: (i64, i64), lines: usize, total: i64) -> Self {
        Self {
            orders: kind.0,
            credit_notes: kind.1,
            lines: i64::try_from(lines).expect("a record of a megabyte has fewer than 2^63 lines"),
            revenue: total,
        }
    }

    /// Adds two sums; on an overflow returns the name of the first sum that overflows.
    fn checked_add(self, other: Self) -> Result<Self, &'static str> {
        let add = |name, left: i64, right: i64| left.checked_add(right).ok_or(name);
        Ok(Self {
            orders: add("orders", self.orders, other.orders)?,
            credit_notes: add("credit_notes", self.credit_notes, other.credit_notes)?,
            lines: add("lines", self.lines, other.lines)?,
            revenue: add("revenue", self.revenue, other.revenue)?,
        })
    }

    fn result(&self, window: Window, (start, country, currency): &Key) -> RevenueByCountry {
        RevenueByCountry {
            window_start: *start,
            window_end: Timestamp(start.0 + window.width_us()),
            country: country.to_string(),
            currency: *currency,
            orders: self.orders,
            credit_notes: self.credit_notes,
            lines: self.lines,
            revenue: self.revenue,
        }
    }
}

#[cfg(test)]
mod tests;
