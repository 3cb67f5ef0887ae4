//! What happened to a workspace's key. `keyId` is the first 16 bytes of a key's SHA-256, hex: it names a key without
//! telling it, and who has a copy can show later that it was this one.

use crate::event::events;

events! {
    pub enum WorkspaceKeyEvent {
        "workspace_key.made" v "1" = Made { version: i32, key_id: String, master_key_id: String },
        /// From here on `version` wraps what is new.
        "workspace_key.rotated" v "1" = Rotated {
            version: i32,
            key_id: String,
            master_key_id: String,
            previous_version: i32,
        },
        /// It wraps nothing new any more, and opens until it is destroyed.
        "workspace_key.retired" v "1" = Retired { version: i32, key_id: String },
        /// A rotation's end: all that older versions wrapped is under this one.
        "workspace_key.rewrapped" v "1" = Rewrapped {
            version: i32,
            key_id: String,
            /// Data keys under it: of credentials' versions and of subjects.
            data_keys: i64,
        },
        /// Another master key wraps this version from here on.
        "workspace_key.master_changed" v "1" = MasterChanged {
            version: i32,
            key_id: String,
            master_key_id: String,
            previous_master_key_id: String,
        },
        /// Somebody wants it destroyed with everything that it wraps.
        "workspace_key.erasure_requested" v "1" = ErasureRequested { version: i32, key_id: String },
        "workspace_key.destroyed" v "1" = Destroyed {
            version: i32,
            key_id: String,
            /// Data keys that it wrapped in its life.
            wrapped: i64,
            /// Of those, what went with it: 0 when everything had been moved before.
            erased: i64,
        },
    }
}
