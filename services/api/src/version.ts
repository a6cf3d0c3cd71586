/** Version of the public API, in its OpenAPI document. */
export const VERSION = '0.1.0';
