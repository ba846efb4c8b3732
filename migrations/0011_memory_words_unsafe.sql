-- memory_words catches an error, which is a subtransaction: before PostgreSQL 17 no parallel worker may begin one, so
-- whoever asked for it in a parallel plan got an error. (The table asks for it in writes alone, which aren't parallel.)
ALTER FUNCTION memory_words(jsonb) PARALLEL UNSAFE;
