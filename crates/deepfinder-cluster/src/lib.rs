//! Label maps and score maps to particles: mean-shift, connected components, peaks, DBSCAN, filters.
