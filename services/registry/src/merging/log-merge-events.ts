import type { FastifyBaseLogger } from 'fastify';
import type { MergeEvent } from './merged-models.js';

/** Writes what happens to merges into the log. What was wrong with a request is in the line of that request. */
export function logMergeEvents(logger: FastifyBaseLogger): (event: MergeEvent) => void {
  return ({ type, adapter, ...event }) => {
    const fields = { adapter, ...event };
    switch (type) {
      case 'merged-model-asked':
      case 'merge-progressed':
        return logger.debug(fields, type);
      case 'merge-failed': {
        const { error, ...rest } = fields as typeof fields & { error?: unknown };
        return logger.warn({ ...rest, err: error }, type);
      }
      default:
        return logger.info(fields, type);
    }
  };
}
