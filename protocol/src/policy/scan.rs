//! Looks at the bytes of an edit before Automerge does (`docs/protocol.md` §10.3).
//!
//! Automerge's columns are run-length encoded: a hundred bytes can claim a million operations, and parsing costs what
//! is claimed. The scan walks the bytes once, allocates nothing, and lets through only one raw change chunk with few
//! rows. It knows the layout of a change chunk and nothing of what an edit may say.

use crate::limits::{
    POLICY_BASE_BYTES_MAX, POLICY_BASE_ROWS_MAX, POLICY_EDIT_BYTES_MAX, POLICY_EDIT_ROWS_MAX,
};

/// The first bytes of every chunk.
const MAGIC: [u8; 4] = [0x85, 0x6F, 0x4A, 0x83];
/// The chunk type of a raw change.
const RAW_CHANGE: u8 = 1;
/// Bytes of a hash of a change.
const HASH_BYTES: usize = 32;
/// Bytes of an actor.
pub(super) const ACTOR_BYTES: usize = 16;
/// Bytes of a key: ids have 13, words fewer.
const KEY_BYTES_MAX: u64 = 32;
/// Largest counter of an operation that Automerge takes.
const COUNTER_MAX: i64 = u32::MAX as i64;

/// Why bytes are no edit; nothing of them was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// More bytes than an edit has.
    #[error("{bytes} bytes are more than {max}")]
    TooLong {
        /// How many there are.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// A column claims more rows than an edit has.
    #[error("a column claims more than {max} rows")]
    TooManyRows {
        /// How many there may be.
        max: usize,
    },
    /// A chunk that is not one raw change: a document, something compressed, something else.
    #[error("not one raw change chunk")]
    Chunk,
    /// The bytes end early, go on too long, or contradict themselves.
    #[error("malformed")]
    Malformed,
    /// A field has a value that no edit of ours has.
    #[error("{0} is not as in an edit")]
    Field(&'static str),
    /// A column that no edit of ours has, or a compressed one.
    #[error("column {0} is in no edit")]
    Column(u64),
}

/// Whether bytes may be parsed as an edit.
///
/// # Errors
/// With the first reason why not.
pub fn scan_edit(bytes: &[u8]) -> Result<(), Refusal> {
    scan(bytes, POLICY_EDIT_BYTES_MAX, POLICY_EDIT_ROWS_MAX)
}

/// Whether bytes may be parsed as a base.
///
/// # Errors
/// With the first reason why not.
pub fn scan_base(bytes: &[u8]) -> Result<(), Refusal> {
    scan(bytes, POLICY_BASE_BYTES_MAX, POLICY_BASE_ROWS_MAX)
}

fn scan(bytes: &[u8], bytes_max: usize, rows_max: usize) -> Result<(), Refusal> {
    if bytes.len() > bytes_max {
        let (bytes, max) = (bytes.len(), bytes_max);
        return Err(Refusal::TooLong { bytes, max });
    }
    let mut chunk = Cursor(bytes);
    let magic = chunk.take(MAGIC.len())?;
    chunk.take(4)?;
    if magic != MAGIC || chunk.take(1)? != [RAW_CHANGE] {
        return Err(Refusal::Chunk);
    }
    if chunk.uleb()? != chunk.0.len() as u64 {
        return Err(Refusal::Malformed);
    }
    let actors = scan_head(&mut chunk)?;
    scan_columns(chunk, actors, rows_max)
}

/// Walks over what stands before the columns; gives how many actors there are.
fn scan_head(chunk: &mut Cursor<'_>) -> Result<u64, Refusal> {
    let parents = chunk.count()?;
    for _ in 0..parents {
        chunk.take(HASH_BYTES)?;
    }
    let is = |good: bool, what| good.then_some(()).ok_or(Refusal::Field(what));
    is(chunk.count()? == ACTOR_BYTES, "the actor")?;
    chunk.take(ACTOR_BYTES)?;
    is(chunk.uleb()? == 1, "the sequence number")?;
    let first = chunk.uleb()?;
    is(
        (1..=COUNTER_MAX.unsigned_abs()).contains(&first),
        "the first counter",
    )?;
    is(chunk.sleb()? == 0, "the time")?;
    is(chunk.count()? == 0, "the message")?;
    let others = chunk.count()?;
    for _ in 0..others {
        is(chunk.count()? == ACTOR_BYTES, "an actor")?;
        chunk.take(ACTOR_BYTES)?;
    }
    Ok(1 + others as u64)
}

/// Walks over the columns to the end of the chunk.
fn scan_columns(mut chunk: Cursor<'_>, actors: u64, rows_max: usize) -> Result<(), Refusal> {
    let count = chunk.count()?;
    let mut table = chunk;
    let mut last = None;
    for _ in 0..count {
        let spec = chunk.uleb()?;
        if last.is_some_and(|last| last >= spec) {
            return Err(Refusal::Malformed);
        }
        last = Some(spec);
        chunk.count()?;
    }
    let mut totals = Totals::default();
    for _ in 0..count {
        let spec = table.uleb()?;
        let length = table.count()?;
        let column = Column {
            bytes: Cursor(chunk.take(length)?),
            rows_max,
            rows: 0,
        };
        totals.add(spec, column, actors)?;
    }
    if chunk.0.is_empty() {
        totals.check()
    } else {
        Err(Refusal::Field("what follows the columns"))
    }
}

/// What the columns of a change claim together.
#[derive(Default)]
struct Totals {
    actions: usize,
    /// The largest number of rows of any other column that has one row an operation.
    rows: usize,
    value_bytes: u64,
    value_bytes_claimed: u64,
    predecessors_claimed: u64,
    predecessor_actors: usize,
    predecessor_counters: usize,
}

impl Totals {
    fn add(&mut self, spec: u64, column: Column<'_>, actors: u64) -> Result<(), Refusal> {
        let rows = match spec {
            // Whose object: actor and counter.
            0x01 => column.numbers(|actor, _| actor < actors)?,
            0x02 => column.numbers(|counter, _| counter <= COUNTER_MAX.unsigned_abs())?,
            // Keys of lists: none.
            0x11 => column.numbers(|_, _| false)?,
            0x13 => column.nulls()?,
            0x15 => column.keys()?,
            // Insertions into lists: none.
            0x34 => column.falses()?,
            0x42 => {
                self.actions = column.numbers(|_, _| true)?;
                self.actions
            }
            0x56 => column.numbers(|meta, run| {
                let claimed = (meta >> 4).saturating_mul(run);
                self.value_bytes_claimed = self.value_bytes_claimed.saturating_add(claimed);
                true
            })?,
            0x57 => {
                self.value_bytes = column.bytes.0.len() as u64;
                0
            }
            0x70 => column.numbers(|count, run| {
                let claimed = count.saturating_mul(run);
                self.predecessors_claimed = self.predecessors_claimed.saturating_add(claimed);
                true
            })?,
            0x71 => {
                self.predecessor_actors = column.numbers(|actor, _| actor < actors)?;
                0
            }
            0x73 => {
                self.predecessor_counters = column.counters()?;
                0
            }
            unknown => return Err(Refusal::Column(unknown)),
        };
        self.rows = self.rows.max(rows);
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
        let predecessors = self.predecessor_actors == self.predecessor_counters
            && self.predecessors_claimed == self.predecessor_actors as u64;
        let sound = self.actions > 0
            && self.rows == self.actions
            && self.value_bytes == self.value_bytes_claimed
            && predecessors;
        sound.then_some(()).ok_or(Refusal::Malformed)
    }
}

/// A column that is being walked.
struct Column<'a> {
    bytes: Cursor<'a>,
    rows_max: usize,
    rows: usize,
}

/// The start of a run.
enum Run {
    /// One value, so many times.
    Repeat(u64),
    /// So many values.
    Literal(u64),
    /// So many rows without a value.
    Null,
}

impl<'a> Column<'a> {
    fn claim(&mut self, rows: u64) -> Result<(), Refusal> {
        let max = self.rows_max;
        let total = usize::try_from(rows).ok();
        let total = total.and_then(|rows| self.rows.checked_add(rows));
        self.rows = total
            .filter(|rows| *rows <= max)
            .ok_or(Refusal::TooManyRows { max })?;
        Ok(())
    }

    fn run(&mut self) -> Result<Run, Refusal> {
        let count = self.bytes.sleb()?;
        let (run, rows) = match count {
            1.. => (Run::Repeat(count.unsigned_abs()), count.unsigned_abs()),
            0 => (Run::Null, self.bytes.uleb()?),
            _ => (Run::Literal(count.unsigned_abs()), count.unsigned_abs()),
        };
        self.claim(rows)?;
        Ok(run)
    }

    /// Walks the runs; `value` reads one value that stands for so many rows.
    fn runs(
        mut self,
        mut value: impl FnMut(&mut Cursor<'a>, u64) -> Result<(), Refusal>,
    ) -> Result<usize, Refusal> {
        while !self.bytes.0.is_empty() {
            match self.run()? {
                Run::Repeat(rows) => value(&mut self.bytes, rows)?,
                Run::Literal(values) => {
                    for _ in 0..values {
                        value(&mut self.bytes, 1)?;
                    }
                }
                Run::Null => {}
            }
        }
        Ok(self.rows)
    }

    fn numbers(self, mut good: impl FnMut(u64, u64) -> bool) -> Result<usize, Refusal> {
        self.runs(|bytes, rows| {
            let number = bytes.uleb()?;
            good(number, rows).then_some(()).ok_or(Refusal::Malformed)
        })
    }

    fn nulls(self) -> Result<usize, Refusal> {
        self.runs(|_, _| Err(Refusal::Malformed))
    }

    fn keys(self) -> Result<usize, Refusal> {
        self.runs(|bytes, _| {
            let length = bytes.uleb()?;
            if length > KEY_BYTES_MAX {
                return Err(Refusal::Field("a key"));
            }
            bytes.take(length as usize)?;
            Ok(())
        })
    }

    /// Differences between counters; their sums must be counters.
    fn counters(self) -> Result<usize, Refusal> {
        let mut counter = 0i64;
        self.runs(|bytes, rows| {
            let step = bytes.sleb()?;
            let rows = i64::try_from(rows).map_err(|_| Refusal::Malformed)?;
            let end = step
                .checked_mul(rows)
                .and_then(|way| counter.checked_add(way));
            counter = end
                .filter(|end| (0..=COUNTER_MAX).contains(end))
                .ok_or(Refusal::Malformed)?;
            Ok(())
        })
    }

    fn falses(mut self) -> Result<usize, Refusal> {
        let mut value = false;
        while !self.bytes.0.is_empty() {
            let rows = self.bytes.uleb()?;
            if value && rows > 0 {
                return Err(Refusal::Field("an insertion"));
            }
            self.claim(rows)?;
            value = !value;
        }
        Ok(self.rows)
    }
}

/// Bytes that are still to be read.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Refusal> {
        let (front, rest) = self.0.split_at_checked(count).ok_or(Refusal::Malformed)?;
        self.0 = rest;
        Ok(front)
    }

    /// A count of things that take a byte each or more.
    fn count(&mut self) -> Result<usize, Refusal> {
        let count = usize::try_from(self.uleb()?).map_err(|_| Refusal::Malformed)?;
        (count <= self.0.len())
            .then_some(count)
            .ok_or(Refusal::Malformed)
    }

    fn byte(&mut self) -> Result<u8, Refusal> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned LEB128 number in its shortest form.
    fn uleb(&mut self) -> Result<u64, Refusal> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return Err(Refusal::Malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return shortest.then_some(number).ok_or(Refusal::Malformed);
            }
        }
        Err(Refusal::Malformed)
    }

    /// A signed LEB128 number.
    fn sleb(&mut self) -> Result<i64, Refusal> {
        let mut number = 0i64;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= i64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                if byte & 0x40 != 0 {
                    number |= -1i64 << (shift + 7);
                }
                return Ok(number);
            }
        }
        Err(Refusal::Malformed)
    }
}
