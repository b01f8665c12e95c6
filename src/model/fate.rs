//! What can become of an event, other than being stored: the reasons, by name.
//!
//! Every event that is received ends in exactly one of these, or in the database. The labels are those of the metrics,
//! the log and the documents.

/// A closed set of reasons that can be counted one by one.
pub trait Reason: Copy + 'static {
    const ALL: &'static [Self];

    /// The value of the label `reason`, in snake case.
    fn label(self) -> &'static str;

    /// The place in [`Reason::ALL`].
    fn index(self) -> usize;
}

macro_rules! reasons {
    ($(#[$outer:meta])* $name:ident { $($(#[$inner:meta])* $variant:ident = $label:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl $crate::model::fate::Reason for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn label(self) -> &'static str {
                match self { $(Self::$variant => $label),+ }
            }

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(crate) use reasons;

reasons! {
    /// Why an event was meant not to be written.
    Filtered {
        /// The user's include and exclude lists leave the entity out.
        NotIncluded = "not_included",
        /// The entity was removed from Home Assistant.
        Removed = "removed",
        /// The state is `unknown`.
        Unknown = "unknown",
        /// The state is `unavailable`.
        Unavailable = "unavailable",
        /// The state is an empty text.
        Empty = "empty",
        /// A rule says `drop`.
        DroppedByRule = "dropped_by_rule",
        /// A rule wants changes of the state only, and only attributes changed.
        SameState = "same_state",
        /// A rule wants a point now and then, and a newer value came before this one's turn.
        Throttled = "throttled",
        /// No entry of `mqtt.topics` says what the message means.
        NotMapped = "not_mapped",
        /// `mqtt.ignore` names the topic of the message.
        IgnoredTopic = "ignored_topic",
        /// A message that the broker kept, and nobody asked for those.
        Retained = "retained",
        /// A message that completes another one, such as the time of a state of `mqtt_statestream`.
        PartOfState = "part_of_state",
        /// An event of a type that is not in `events`.
        NotAskedFor = "not_asked_for",
        /// Home Assistant restored the state at its own start, and `history.skip_restored` leaves such out.
        Restored = "restored",
    }
}

reasons! {
    /// Why something that Home Assistant sent could not become an event.
    Unreadable {
        /// A frame that is not JSON, is cut off, or is no message.
        Frame = "frame",
        /// A message of a known type whose content is not what that type holds.
        Message = "message",
        /// One entity inside a message.
        Entity = "entity",
        /// One attribute of an entity; the rest of the entity was used.
        Attribute = "attribute",
        /// A change of an entity that was never announced, or whose last change was lost: there is nothing to apply it to.
        UnknownEntity = "unknown_entity",
        /// Home Assistant said that it could not serialise the event.
        NotSerialised = "not_serialised",
    }
}

reasons! {
    /// Why a point could not become a line.
    Refused {
        /// Nothing that can be written is left: every field was missing or not finite.
        NoFields = "no_fields",
        NoMeasurement = "no_measurement",
        /// Measurement, tags and one field key together exceed what InfluxDB takes.
        KeyTooLong = "key_too_long",
        /// Outside the years that a 64-bit count of nanoseconds covers.
        TimeOutOfRange = "time_out_of_range",
        /// The payload of a message is not the JSON that the rule for its topic expects.
        NotJson = "not_json",
        /// The payload of a message is not text.
        NotText = "not_text",
        /// The payload of a message is larger than what is looked at.
        PayloadTooLarge = "payload_too_large",
        /// A time that a rule says is in the payload is not there, or is none.
        NoTime = "no_time",
        /// A value is not of the type that a rule says it has.
        WrongType = "wrong_type",
    }
}

reasons! {
    /// Why a line was set aside in the dead-letter store.
    SetAside {
        /// The database cannot read the line.
        Unparsable = "unparsable",
        /// A field has another type in the database.
        TypeConflict = "type_conflict",
        /// The line alone is larger than the database takes.
        TooLarge = "too_large",
        /// Any other reason that no repetition changes.
        RefusedByDatabase = "refused_by_database",
    }
}

/// Why the database will never have a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    SetAside(SetAside),
    /// Older than what the database keeps.
    Expired,
    /// It has no number, and the database keeps nothing else.
    NoNumber,
}

reasons! {
    /// Why a record is nowhere.
    Dropped {
        /// The spool was full, and this was the oldest record.
        SpoolFull = "spool_full",
        /// The disk did not take records, memory was full, and this was the oldest record in it.
        MemoryFull = "memory_full",
        /// What was read back from the disk is not what was written to it, or it is gone.
        Damaged = "damaged",
        /// The service was stopped while neither the target nor the disk took it.
        Stopped = "stopped",
        /// The database refused it, and the disk did not take it as a dead letter.
        NotSetAside = "not_set_aside",
    }
}

#[cfg(test)]
mod tests {
    use super::{Dropped, Filtered, Reason, Refused, SetAside, Unreadable};

    fn check<R: Reason>() {
        for (at, reason) in R::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at, "{}", reason.label());
        }
    }

    #[test]
    fn an_index_is_the_place_in_the_list() {
        check::<Filtered>();
        check::<Unreadable>();
        check::<Refused>();
        check::<SetAside>();
        check::<Dropped>();
    }
}
