//! Enumerations that survive a value they do not know.

/// Declares an enum of JSON strings.
///
/// The CRD lists the known values, and the API server refuses others. Objects stored under an older or newer CRD may
/// hold another one all the same; it decodes into `Unknown` and is written back as it was, so that one such object
/// does not break the reading of a whole list.
macro_rules! string_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
            /// A value this version does not know; validation reports it.
            Unknown(String),
        }

        impl $name {
            /// The values the CRD allows, in the order in which it lists them.
            pub const SUPPORTED: &'static [&'static str] = &[$($text),+];

            /// The value as it is written in an object.
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $text, )+
                    Self::Unknown(other) => other,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $( $text => Self::$variant, )+
                    other => Self::Unknown(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                Ok(Self::from(text.as_ref()))
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "enum": Self::SUPPORTED })
            }
        }

        impl crate::field::Enumeration for $name {
            fn unknown(&self) -> Option<&str> {
                match self {
                    Self::Unknown(value) => Some(value),
                    _ => None,
                }
            }

            fn supported() -> &'static [&'static str] {
                Self::SUPPORTED
            }
        }
    };
}

pub(crate) use string_enum;
