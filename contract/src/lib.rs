//! What the services say to each other: ids, digests, states, messages (version 1), subjects, stream and consumer
//! settings. No I/O happens here; everything can be read and tested as plain data.

mod digest;
mod expectation;
mod id;
mod message;
mod name_template;
mod object_name;
mod object_path;
mod one_line;
mod problem_kind;
mod receipt;
mod split;
mod state;
mod stream;
mod subject;
mod timestamp;

pub use digest::{Digest, DigestError, Hasher};
pub use expectation::{Expectation, Mismatch, Proven};
pub use id::{ChunkNumber, Epoch, FileId, FileIdError, Generation};
pub use message::{
    Cause, ChunkAnswer, ChunkHeader, ChunkHeaderError, ChunkReply, DeadLetter, Event, Hint, MESSAGE_VERSION,
    MessageError,
};
pub use name_template::{NameTemplate, NameTemplateError, NameValues, NamingError};
pub use object_name::{ObjectName, ObjectNameError};
pub use object_path::{ObjectPath, ObjectPathError};
pub use one_line::{indented, is_hidden, one_line, plain_json};
pub use problem_kind::ProblemKind;
pub use receipt::{
    CanonicalError, Check, FailedAttempt, KeyError, PublicKey, Receipt, ReceiptRemote, ReceiptSignature, ReceiptSource,
    ReceiptVerdict, RemoteChecksum, RemoteProof, SigningKey, canonical_json, check_data, check_receipt,
    private_key_pem, read_json,
};
pub use split::{CHUNK_SIZE_MAX, CHUNK_SIZE_MIN, PAYLOAD_HEADROOM, Split, WIRE_CHUNK_SIZE};
pub use state::{EventKind, State};
pub use stream::{ConsumerSpec, StreamRetention, StreamSpec};
pub use subject::{Names, PrefixError, Role, Step};
pub use timestamp::Timestamp;
