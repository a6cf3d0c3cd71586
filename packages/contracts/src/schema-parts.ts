import { Type } from 'typebox';

/** The option of an object's schema that allows no other fields. */
export const closed = { additionalProperties: false };

export const count = (description: string) => Type.Integer({ minimum: 0, description });
