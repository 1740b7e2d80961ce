package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

const agent = "http://127.0.0.1:2774"

func send(method, path, body, header, value string) {
	request, _ := http.NewRequest(method, agent+path, strings.NewReader(body))
	request.Header.Set(header, value)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	fmt.Println(answer.StatusCode, string(text))
}

func main() {
	guard := os.Getenv("GUARD")
	send("GET", "/proxy/default/v3/users/list", "", "X-Token-Broker-Token", guard)
	form := "grant_type=client_credentials&client_id=any&client_secret=" + guard
	send("POST", "/oauth/token", form, "Content-Type", "application/x-www-form-urlencoded")
}
