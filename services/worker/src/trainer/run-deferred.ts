/** A run cannot begin beside the others that its trainer has. Nothing of it was done, and it may begin once they have ended. */
export class RunDeferred extends Error {}
