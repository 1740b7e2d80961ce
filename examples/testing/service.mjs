import { brokerFetch } from "token-broker";
const apiUrl = process.env.CONVIRZA_API_URL;
const api = brokerFetch({ apiUrl });
export const nameOf = async (call) => (await (await api(`${apiUrl}/v3/calls/${call}`)).json()).name;
