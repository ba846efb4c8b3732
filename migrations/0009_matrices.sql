-- ρ: a tenant's density matrices, each at its last version, as `agents/rho/envelope.py` has them. What is committed,
-- and what is told of it (rho.status, by the outbox), is one transaction.
CREATE TABLE matrices (
    tenant      text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    version     bigint NOT NULL CHECK (version > 0),
    matrix      bytea NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, key)
);
-- Numbers of 8 bytes don't get smaller: nobody should try.
ALTER TABLE matrices ALTER COLUMN matrix SET STORAGE EXTERNAL;

-- What idempotency keys were used for: a digest of the commit, and what it was answered.
CREATE TABLE matrix_commits (
    tenant          text COLLATE "C" NOT NULL,
    idempotency_key text COLLATE "C" NOT NULL,
    digest          bytea NOT NULL,
    versions        jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, idempotency_key)
);
CREATE INDEX matrix_commits_age ON matrix_commits (tenant, created_at);
