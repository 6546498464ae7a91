//! Matching, precision, recall and F-scores of particle lists and label maps.
