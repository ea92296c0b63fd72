"""One file a format in which answers already lie; `assay.suites.answers` tells them apart and reads them."""
