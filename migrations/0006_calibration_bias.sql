-- A predictor's confidences are calibrated by a slope and a bias, learned sample by sample, where there was a temperature
-- that was fitted anew now and then. Rows of before keep theirs, and what an older worker writes works.
ALTER TABLE calibration ADD COLUMN slope double precision;
ALTER TABLE calibration ADD COLUMN bias double precision;
ALTER TABLE calibration
    ALTER COLUMN temperature DROP NOT NULL,
    ALTER COLUMN previous DROP NOT NULL,
    ALTER COLUMN fitted DROP NOT NULL,
    ALTER COLUMN kept DROP NOT NULL;
