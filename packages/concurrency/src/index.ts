export { Alarm } from './alarm.js';
export { mapWithConcurrency } from './map-with-concurrency.js';
export { Semaphore } from './semaphore.js';
export { SharedRounds } from './shared-rounds.js';
export { SingleFlight } from './single-flight.js';
export { inTime, pause, untilAborted } from './waits.js';
