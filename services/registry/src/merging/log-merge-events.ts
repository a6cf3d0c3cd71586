import type { FastifyBaseLogger } from 'fastify';
import type { MergeEvent } from './merged-models.js';

/** Logs the events of merges. An error of a request is in the log line of that request. */
export function logMergeEvents(logger: FastifyBaseLogger): (event: MergeEvent) => void {
  return ({ type, adapter, ...event }) => {
    const fields = { adapter, ...event };
    switch (type) {
      case 'merged-model-requested':
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
