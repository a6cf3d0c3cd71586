/** A key of an api client, and the credentials in an address. */
const API_KEY = /lsk_[0-9a-f]{24}_[A-Za-z0-9_-]*/g;
const CREDENTIALS = /\b((?:rediss?|https?|s3):\/\/)[^\s/@"\\]*@/g;

/**
 * A text for the log, without secrets that found their way into it: a key that somebody put into an address or a name,
 * the password in the address of Redis.
 */
export function withoutSecrets(text: string): string {
  return text.replaceAll(API_KEY, 'lsk_…').replaceAll(CREDENTIALS, '$1…@');
}
