//! Enums whose variants have names.

/// Defines an enum, so that each variant and its name are written once. `$text` returns the name. For this workspace.
#[doc(hidden)]
#[macro_export]
macro_rules! named {
    (
        $(#[$of_enum:meta])*
        pub enum $Enum:ident, $text:ident { $($(#[$of_variant:meta])* $Variant:ident = $name:literal,)+ }
    ) => {
        $(#[$of_enum])*
        pub enum $Enum { $($(#[$of_variant])* $Variant,)+ }

        impl $Enum {
            /// Every variant, in the order of the documentation.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$Variant),+];

            /// The name outside the code.
            pub const fn $text(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }

            /// The variant of this name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|variant| variant.$text() == name)
            }
        }
    };
}
