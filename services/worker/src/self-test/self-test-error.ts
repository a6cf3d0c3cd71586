/**
 * The self-test has no result: the engine could not be started, the CPU could not compute what the card is compared with, or the
 * time was over. That is no fault of the card. The message says what happened.
 */
export class SelfTestError extends Error {}
