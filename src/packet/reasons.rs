//! Defines a set of drop reasons: each is a value without payload, and its label is both the metric's
//! `reason` label and the word that `explain` prints.

/// `drop_reasons! { /// docs  pub enum DropReason { Truncated = "truncated", … } }`
macro_rules! drop_reasons {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The metric's label and the word of `explain`.
            pub const fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.label())
            }
        }
    };
}

pub(crate) use drop_reasons;
