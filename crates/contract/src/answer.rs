//! The token answer.

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServedFrom {
    /// The instance's cache, without I/O.
    Memory,
    /// The shared record.
    Table,
    /// A renewal by this request.
    Upstream,
}
