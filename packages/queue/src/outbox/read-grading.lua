--- Returns the outcome of a grading, or whether it still waits: '' and 1 or 0.
--- @keys grading_messages grading_outcome
--- @args id

return {redis.call('GET', grading_outcome) or '', redis.call('HEXISTS', grading_messages, id)}
